"""`unified.load` of a folder of VARGPT-v1.1: ask, chat, draw, edit, in Python and in the terminal."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unified
from unified.apps.commands.chat import Chat
from unified.apps.conversation import Painted, Scale, Text
from unified.apps.vargpt import DrawingAssistant
from unified.cli import main
from unified.decoding.sampling import Sampler
from unified.heads.distribution import Drawn

sys.path.insert(0, str(Path(__file__).parents[2]))
import tiny_vargpt as tiny


def picture(number, height=24, width=24):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("vargpt") / "model")


@pytest.fixture(scope="module")
def assistant(folder):
    return unified.load(folder, device="cpu", dtype="float32")


class Says(Sampler):
    """Not a choice: a given answer, id by id."""

    def __init__(self, ids):
        super().__init__()
        object.__setattr__(self, "ids", iter(ids))

    def draw(self, logits, noise, places):
        return Drawn(torch.tensor([[[next(self.ids)]]]), torch.zeros(1, 1))


def test_it_is_recognised(assistant):
    assert isinstance(assistant, DrawingAssistant)
    assert assistant.draws


def test_questions_about_images_are_answered_as_transformers_would(assistant):
    images = [picture(1), picture(2, 16, 40)]
    content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": "Where?"}]
    prompt = assistant.processor.prompt([{"role": "user", "content": content}])
    own = assistant.model.vargpt.sizes.ids
    ids = assistant.model.pretrained.generate(
        **prompt.inputs,
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=sorted(assistant.model.ends),
        suppress_tokens=[own.start, assistant.model.image],
    )[0]
    want = assistant.processor.text(ids[len(prompt.ids) :]).strip()
    assert assistant.ask("Where?", images, max_tokens=8) == want


def test_drawings_follow_prompt_and_seed(assistant, folder):
    first = assistant.draw("Two red circles.", temperature=1.0)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, assistant.draw("Two red circles.", temperature=1.0))
    assert not np.array_equal(first, assistant.draw("A blue square.", temperature=1.0))
    other = unified.load(folder, device="cpu", dtype="float32", seed=5)
    assert not np.array_equal(first, other.draw("Two red circles.", temperature=1.0))
    assert not np.array_equal(first, assistant.draw("Two red circles.", temperature=1.0, guidance=1.0))


def test_other_sizes_are_those_that_the_decoder_has_maps_for(assistant):
    assert assistant.draw("A circle.", size=(40, 32)).shape == (40, 32, 3)
    with pytest.raises(ValueError, match="no drawing of 40x40 pixels; the nearest is 32x32"):
        assistant.draw("A circle.", size=(40, 40))
    with pytest.raises(ValueError, match="tries must be 1, got 3"):
        assistant.draw("A circle.", tries=3)


def test_an_edit_depends_on_its_source(assistant, tmp_path):
    edited = assistant.edit(picture(1), "Make it blue.")
    assert edited.shape == (32, 32, 3)
    assert not np.array_equal(edited, assistant.edit(picture(2), "Make it blue."))
    assert not np.array_equal(edited, assistant.edit(picture(1), "Make it red."))
    Image.fromarray(picture(1)).save(tmp_path / "photo.png")
    assert np.array_equal(edited, assistant.edit(tmp_path / "photo.png", "Make it blue."))


def test_what_it_does_not_do_is_one_line(assistant):
    for verb in ("solve", "imagine", "act", "dream", "player"):
        with pytest.raises(ValueError, match="neither solves mazes nor steps a world"):
            getattr(assistant, verb)(picture(1))
    with pytest.raises(ValueError, match="nothing was said"):
        assistant.chat().say(" ")


# Conversations ----------------------------------------------------------------------------------------------


def test_the_model_chooses_to_draw(assistant):
    """Text, its own start token, all maps, the picture; which then is one of the conversation's."""
    words, start = assistant.processor.tokenizer, assistant.model.vargpt.sizes.ids.start
    talk = assistant.chat(max_tokens=8)
    events = list(talk.say("Draw a circle.", text_sampler=Says([*words.encode("Here"), start])))
    assert "".join(event.text for event in events if isinstance(event, Text)) == "Here"
    assert [event.step for event in events if isinstance(event, Scale)] == list(range(1, 8))
    (painted,) = [event.image for event in events if isinstance(event, Painted)]
    assert [item["type"] for item in talk.messages[1]["content"]] == ["text", "image"]
    assert np.array_equal(talk.messages[1]["content"][1]["image"], painted)
    said = "".join(event.text for event in talk.say("What is this?", allow_images=False))
    assert said.strip() == assistant.answers([talk.messages[:3]], max_tokens=8)[0]


def test_a_drawing_that_is_asked_for_comes(assistant):
    talk = assistant.chat(max_tokens=4)
    events = list(talk.say("A circle.", require_image=True))
    assert isinstance(events[-1], Painted)
    assert talk.messages[1]["content"][-1]["type"] == "image"


def test_text_goes_on_where_it_was(assistant):
    words, talk = assistant.processor.tokenizer, assistant.chat(max_tokens=8)
    answer = [*words.encode(" circle"), words.eos_token_id]
    list(talk.say("What is this?", [picture(1)], text_sampler=Says(answer)))
    session = talk._session
    list(talk.say("Where?", allow_images=False))
    assert talk._session is session
    assert talk.messages[1]["content"] == " circle"


def test_a_drawing_that_is_broken_off_leaves_a_conversation(assistant):
    talk = assistant.chat(max_tokens=4)
    stream = talk.say("A circle.", require_image=True)
    while not isinstance(next(stream), Scale):
        pass
    stream.close()
    assert len(talk.messages) in (0, 2)
    assert isinstance(list(talk.say("Go on.", require_image=True))[-1], Painted)


def test_in_the_terminal(assistant, tmp_path):
    Image.fromarray(picture(4)).save(tmp_path / "photo.png")
    lines = iter(
        [
            f"/image {tmp_path / 'photo.png'}",
            "/edit Make it blue.",
            "/draw a circle",
            "/play forward",
            "/look",
        ]
    )
    printed = []

    def read(_):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    Chat(assistant, folder=tmp_path, read=read, write=printed.append, max_tokens=4, progress=False).run()
    text = "".join(printed)
    assert len(list(tmp_path.glob("picture_*.png"))) == 2
    assert text.count("is not for this model") == 2


# The command ------------------------------------------------------------------------------------------------


def test_the_verbs_of_the_command(folder, tmp_path, capsys):
    common = ["--model", str(folder), "--device", "cpu", "--dtype", "float32"]
    assert main(["draw", "A circle.", "--out", str(tmp_path / "a.png"), *common]) == 0
    assert Image.open(tmp_path / "a.png").size == (32, 32)
    arguments = [str(tmp_path / "a.png"), "Make it blue.", "--out", str(tmp_path / "b.png")]
    assert main(["edit", *arguments, "--guidance", "2", *common]) == 0
    assert main(["ask", "What?", "--image", str(tmp_path / "b.png"), *common]) == 0
    capsys.readouterr()
    assert main(["info", *common, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["family"], told["draws"], told["drawing"], told["bits"]) == ("vargpt", True, "32x32", 4)


def test_what_is_missing_is_one_line(folder, tmp_path, capsys):
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert main(["draw", "A circle.", "--model", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "no weights" in error
    assert error.count("\n") == 1
