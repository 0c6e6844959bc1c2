"""`unified.load` of an extended model: it answers as before, and draws."""

import numpy as np
import pytest
from test_extension import picture

import unified
from unified.apps.commands.chat import Chat
from unified.apps.commands.info import describe
from unified.apps.conversation import Painted, Text
from unified.apps.extended import CODES, TOWER, ExtendedAssistant

EVERY = pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "gemma3"])
READS = pytest.mark.parametrize("reads", [(CODES,), (TOWER,), (TOWER, CODES)], ids="+".join)
SIZE = {"size": (32, 32), "tries": 1}


@pytest.fixture(scope="module")
def loaded(folders):
    found = {}

    def load(name):
        if name not in found:
            options = {"device": "cpu", "dtype": "float32"}
            found[name] = [
                unified.load(folder, **options) for folder in (folders.extended(name), folders.folder(name))
            ]
        return found[name]

    return load


@EVERY
def test_it_answers_as_the_pretrained_model_does(loaded, name):
    extended, base = loaded(name)
    images = [picture(1), picture(2, 16, 40)]
    for shown in (None, images[0], images):
        assert extended.ask("Where?", shown, max_tokens=12) == base.ask("Where?", shown, max_tokens=12)


@EVERY
def test_it_draws_and_edits(loaded, name):
    extended, _ = loaded(name)
    drawn = extended.draw("Draw a red circle.", **SIZE)
    assert drawn.shape == (32, 32, 3)
    assert np.array_equal(drawn, extended.draw("Draw a red circle.", **SIZE))
    assert extended.edit(picture(3, 64, 64), "Make it blue.", tries=1).shape == (64, 64, 3)
    assert extended.imagine(picture(4, 64, 64), [{"forward": 1}, {"jump": 1}]).shape == (2, 64, 64, 3)
    assert extended.act(picture(4, 64, 64))["camera"] is not None


@READS
def test_what_an_image_is_read_by(loaded, reads):
    model, _ = loaded("qwen3_vl")
    extended = ExtendedAssistant(model.model, model.processor, model.words, reads=reads)
    turn = extended.turn([{"type": "image", "image": picture(3)}], first=True)
    words = extended.processor.vocabulary
    assert (words.image in turn.ids) == bool(turn.values) == (TOWER in reads)
    assert any(words.visual_start <= token < words.action_start for token in turn.ids) == (CODES in reads)
    assert extended.edit(picture(3, 64, 64), "Make it blue.", tries=1).shape == (64, 64, 3)


def test_readers_of_other_names_are_refused(loaded):
    model, _ = loaded("qwen3_vl")
    for reads in ((), ("eyes",)):
        with pytest.raises(ValueError, match="reads must name"):
            ExtendedAssistant(model.model, model.processor, model.words, reads=reads)


@EVERY
def test_a_conversation_answers_as_the_pretrained_model_and_draws(loaded, name):
    model, base = loaded(name)
    extended = ExtendedAssistant(model.model, model.processor, model.words, reads=(TOWER,))
    one, other = extended.chat(max_tokens=8), base.chat(max_tokens=8)
    for talk in (one, other):
        assert list(talk.say("What is here?", [picture(1)]))
    marks, end = one.model.vocabulary.marks, one.model.vocabulary.end
    heard, theirs = [token for token in one.ids if token not in marks], other._session.streams[0]
    assert heard in (theirs, [*theirs, end])  # a turn is closed even where it was too long
    assert list(one.say("And two red circles?"))
    events = list(one.say("Draw it.", require_image=True, max_images=1))
    assert sum(isinstance(event, Painted) for event in events) == 1
    again = list(one.say("And another.", [picture(2)], image_only=True))
    assert isinstance(again[-1], Painted)
    kinds = [item["type"] for message in one.messages() for item in message["content"]]
    assert kinds.count("features") == 2
    assert kinds.count("image") == 2


def test_an_interrupted_conversation_goes_on(loaded):
    extended, _ = loaded("qwen3_vl")
    talk = extended.chat(max_tokens=8)
    events = talk.say("What is here?", [picture(1)])
    next(events)
    events.close()
    assert any(isinstance(event, Text) for event in list(talk.say("And there?")))


def test_the_terminal_conversation_draws(loaded, tmp_path):
    extended, _ = loaded("qwen2_5_vl")
    told = []
    talk = Chat(extended, folder=tmp_path, write=told.append, max_tokens=4, progress=False)
    talk.handle("What is here?")
    talk.handle("/draw a red circle")
    assert list(tmp_path.glob("*.png")), "".join(told)


def test_what_it_is_made_of(loaded, folders):
    extended, _ = loaded("gemma3")
    data = describe(extended)
    assert data["extends"] == str(folders.folder("gemma3").resolve())
    assert data["visual_codes"] == 64
    assert data["action_ids"] > 0
