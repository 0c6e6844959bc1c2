"""Words that the model's context has no room for are refused in one line, by every verb and command."""

import numpy as np
import pytest
from PIL import Image

from unified.apps.assistant import Assistant
from unified.apps.cli import main
from unified.apps.commands.chat import Chat
from unified.apps.demo import random_model
from unified.pretrained import save_model

FRAME = np.zeros((32, 32, 3), np.uint8)
VERBS = {
    "ask": lambda a, words: a.ask(words),
    "ask about a picture": lambda a, words: a.ask(words, image=FRAME),
    "draw": lambda a, words: a.draw(words),
    "edit": lambda a, words: a.edit(FRAME, words),
    "act": lambda a, words: a.act(FRAME, words),
    "play": lambda a, words: a.player(words).act(FRAME),
    "chat": lambda a, words: list(a.chat().say(words)),
}


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*random_model(), side=32)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_before_it_runs_the_model(assistant, verb):
    def run(*_):
        raise AssertionError("the model was run")

    hook = assistant.model.backbone.layers[0].register_forward_pre_hook(run)
    try:
        with pytest.raises(ValueError, match="shorten") as refusal:
            VERBS[verb](assistant, "x" * 60_000)
    finally:
        hook.remove()
    assert "\n" not in str(refusal.value)


def test_the_limit_is_that_of_the_model(assistant):
    config, words = assistant.model.backbone.config, "x" * 300
    before = config.max_position_embeddings
    assistant.ask(words, max_tokens=1)
    try:
        config.max_position_embeddings = 256
        with pytest.raises(ValueError, match="the model's context 256 positions: shorten"):
            assistant.ask(words, max_tokens=1)
        with pytest.raises(ValueError, match="reads 128 at once: shorten"):
            list(assistant.chat().say("x" * 130))
    finally:
        config.max_position_embeddings = before


def test_commands_and_chat_refuse_in_one_line(tmp_path, capsys):
    model, picture, words = tmp_path / "model", tmp_path / "a.png", "x" * 60_000
    save_model(model, *random_model())
    Image.fromarray(FRAME).save(picture)
    for command in (
        ("ask", words),
        ("draw", words, "--out", str(tmp_path / "b.png")),
        ("edit", str(picture), words, "--out", str(tmp_path / "b.png")),
        ("act", str(picture), "--task", words),
    ):
        assert main([command[0], "--model", str(model), "--device", "cpu", *command[1:]]) == 2
        printed = capsys.readouterr().err
        assert "shorten" in printed
        assert len(printed) < 300
    said = []
    chat = Chat(Assistant(*random_model(), side=32), folder=tmp_path, write=said.append)
    for line in (words, f"/draw {words}"):
        chat.handle(line)
        assert said[-1].startswith("! ")
        assert "shorten" in said[-1]
    chat.handle("/image " + str(picture))
    assert chat.latest is not None
