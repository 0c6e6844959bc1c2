"""The state of a chat: what was listed is thought over as long as its picture is the latest."""

import numpy as np
import pytest

from unified.apps.assistant import Assistant
from unified.apps.commands.chat import Chat
from unified.apps.demo import random_model
from unified.apps.looking import THINK_PROMPT


@pytest.fixture
def chat(tmp_path):
    assistant = Assistant(*random_model(), side=32)
    made = Chat(assistant, folder=tmp_path, write=lambda text: None, max_tokens=3)
    made._keep(np.zeros((32, 32, 3), dtype=np.uint8))
    return made


def asked(chat, line):
    """What the model was asked in the turn that `line` made."""
    before = len(chat.talk.ids)
    chat.handle(line)
    return chat.model.processor.stream.text.decode([i for i in chat.talk.ids[before:] if i < 256])


def test_questions_are_thought_over_after_a_look_until_there_is_another_picture(chat):
    assert THINK_PROMPT not in asked(chat, "How many?")
    chat.handle("/look")
    assert f"How many? {THINK_PROMPT}" in asked(chat, "How many?")
    assert THINK_PROMPT not in asked(chat, "Thank you.")
    chat.handle("/draw a red circle")
    assert THINK_PROMPT not in asked(chat, "How many?")


def test_a_new_conversation_has_listed_nothing(chat):
    chat.handle("/look")
    chat.handle("/new")
    assert THINK_PROMPT not in asked(chat, "How many?")
