"""A list of what stands where comes before the answer, and the answer is made from it."""

from dataclasses import replace

import numpy as np
import pytest
from unified.tasks.scenes.thoughts import SO, THINKING, conclusion
from unified.tasks.scenes.turns import LOOKING as REQUESTS

from unified.apps.answering import answers, text_of
from unified.apps.assistant import ASKING, Assistant
from unified.apps.demo import random_model
from unified.apps.looking import LOOK_PROMPT, LOOKING, THINK_PROMPT, after_look, concluded, for_list

SIDE = 32


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*random_model(), side=SIDE)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def asked(question="How many?"):
    content = [{"type": "image", "image": picture()}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def test_the_requests_are_those_that_are_trained():
    assert LOOK_PROMPT in REQUESTS
    assert THINK_PROMPT == THINKING


def test_what_a_thought_comes_to_is_what_training_says():
    for words in (f"1 top left a small solid red star. {SO}1", "red", f"none. {SO}no. {SO}yes"):
        (item,) = concluded([{"type": "text", "text": words}])
        assert item["text"] == conclusion(words)
        assert SO not in item["text"]


def test_the_picture_is_shown_once_and_the_question_comes_last():
    before = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    listed = [{"type": "text", "text": "Seen: nothing."}]
    messages = [*before, *asked()]
    talk = after_look(messages, listed)
    assert talk[:2] == before
    assert talk[:3] == for_list(messages)
    assert [item["type"] for item in talk[2]["content"]] == ["image", "text"]
    assert talk[2]["content"][1]["text"] == LOOK_PROMPT
    assert talk[3:] == [
        {"role": "assistant", "content": listed},
        {"role": "user", "content": [{"type": "text", "text": "How many? Think first."}]},
    ]


def test_asking_looks_first_unless_told_not_to(assistant):
    said = {}
    for look in (True, False):
        said[look] = assistant.ask("How many?", picture(), look=look, max_tokens=12)
    model, processor = assistant.model, assistant.processor
    shapes, settings = assistant.shapes((SIDE, SIDE)), replace(ASKING, max_tokens=12)
    (listed,) = answers(model, processor, [for_list(asked())], shapes, LOOKING)
    (answer,) = answers(model, processor, [after_look(asked(), listed)], shapes, settings)
    assert said[True] == text_of(answer)
    assert said[True] != said[False]
    assert assistant.ask("How many?", look=True) == assistant.ask("How many?", look=False)
