"""`unified.load` of a folder of transformers: ask, chat, and one line for what it cannot do."""

import json

import image_text_families as families
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import unified
from unified.apps.commands.chat import Chat
from unified.apps.image_text import ImageTextAssistant
from unified.decoding.grounding import MutualInformation
from unified.decoding.sampling import Sampler
from unified.heads.distribution import Drawn
from unified.vision_language.generation import open_session, said
from unified.vision_language.processor import PretrainedProcessor

EVERY = pytest.mark.parametrize("name", families.FAMILIES)


def picture(number, height=24, width=24):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def loaded(folders):
    found = {}

    def load(name):
        if name not in found:
            found[name] = unified.load(folders.folder(name), device="cpu", dtype="float32")
        return found[name]

    return load


@EVERY
def test_questions_about_images_are_answered_as_transformers_would(loaded, name):
    model = loaded(name)
    images = [picture(1), picture(2, 16, 40)]
    content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": "Where?"}]
    prompt = model.processor.prompt([{"role": "user", "content": content}])
    ids = model.model.pretrained.generate(**prompt.inputs, max_new_tokens=12, do_sample=False)[0]
    assert model.ask("Where?", images, max_tokens=12) == model.processor.text(ids[len(prompt.ids) :]).strip()


def test_an_image_may_be_a_file(loaded, tmp_path):
    model = loaded("gemma3")
    Image.fromarray(picture(3)).save(tmp_path / "photo.png")
    assert model.ask("What?", tmp_path / "photo.png", max_tokens=6) == model.ask(
        "What?", picture(3), max_tokens=6
    )


@EVERY
def test_a_conversation_streams_and_goes_on_where_it_was(loaded, name):
    model = loaded(name)
    talk = model.chat(max_tokens=8)
    said = ["".join(event.text for event in talk.say("What is this?", [picture(1)]))]
    said += ["".join(event.text for event in talk.say("And these?", [picture(2), picture(3, 16, 40)]))]
    said += ["".join(event.text for event in talk.say("Where?"))]
    for turn, answer in enumerate(said):
        assert talk.messages[2 * turn + 1]["content"] == answer
        before = talk.messages[: 2 * turn + 1]
        assert model.answers([before], max_tokens=8)[0] == answer.strip()


class Says(Sampler):
    """Not a choice: a given answer, id by id."""

    def __init__(self, ids):
        super().__init__()
        object.__setattr__(self, "ids", iter(ids))

    def draw(self, logits, noise, places):
        return Drawn(torch.tensor([[[next(self.ids)]]]), torch.zeros(1, 1))


@EVERY
def test_what_was_read_is_not_read_again(loaded, name, monkeypatch):
    """The session goes on where answer and template give the same ids again, and images are looked at once;
    what is said then is what a session says that reads it all."""
    model = loaded(name)
    words, talk, seen = model.processor.tokenizer, model.chat(max_tokens=8), []
    answer = [*words.encode(" circle"), words.eos_token_id]
    list(talk.say("What is this?", [picture(1)], text_sampler=Says(answer)))
    session = talk._session
    monkeypatch.setattr(model.model, "values", lambda inputs: seen.append(inputs))
    said = "".join(event.text for event in talk.say("And where?"))
    monkeypatch.undo()
    assert talk._session is session
    assert not seen
    assert talk.messages[1]["content"] == " circle"
    assert said.strip() == model.answers([talk.messages[:-1]], max_tokens=8)[0]
    answer = [*words.encode(" square"), words.eos_token_id]
    list(talk.say("More?", text_sampler=Says(answer)))
    session = talk._session
    said = "".join(event.text for event in talk.say("And this?", [picture(2, 16, 40)]))
    assert talk._session is session or name == "llava_onevision"  # which reads several images otherwise
    assert said.strip() == model.answers([talk.messages[:-1]], max_tokens=8)[0]


def test_an_answer_that_is_broken_off_leaves_a_conversation(loaded):
    model = loaded("qwen3_vl")
    talk = model.chat(max_tokens=64)
    stream = talk.say("What is this?", [picture(1)])
    piece = next(stream).text
    stream.close()
    assert [message["role"] for message in talk.messages] == ["user", "assistant"]
    assert talk.messages[1]["content"] == piece
    assert isinstance("".join(event.text for event in talk.say("Go on.")), str)


def test_a_long_conversation_forgets_its_first_turns(loaded):
    model = loaded("qwen2_5_vl")
    talk = model.chat(max_tokens=2)
    for _ in range(6):
        list(talk.say("circle square " * 60))
    assert talk.forgotten > 0
    assert len(talk.messages) < 12
    with pytest.raises(ValueError, match="shorten"):
        talk.say("circle square " * 2000)


def test_drawing_is_refused_in_one_line(loaded):
    model = loaded("gemma3")
    for verb in ("draw", "edit", "solve", "imagine", "act"):
        with pytest.raises(ValueError, match="does not draw") as error:
            getattr(model, verb)("a circle")
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="does not draw"):
        model.chat().say("a circle", require_image=True)


def test_in_the_terminal(loaded, tmp_path):
    Image.fromarray(picture(4)).save(tmp_path / "photo.png")
    lines, printed = (
        iter([f"/image {tmp_path / 'photo.png'}", "What?", "/draw a circle", "/play forward"]),
        [],
    )

    def read(_):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    Chat(loaded("gemma3"), folder=tmp_path, read=read, write=printed.append, max_tokens=4).run()
    text = "".join(printed)
    assert "24 x 24" in text
    assert text.count("does not draw") == 2


def test_errors_name_what_refuses(loaded):
    strip = np.zeros((1, 500, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="processor refuses this: absolute aspect ratio"):
        loaded("qwen3_vl").ask("What?", strip)
    with pytest.raises(ValueError, match="at least one message"):
        loaded("gemma3").answers([[]])


def test_the_command_asks_about_several_images(loaded, capsys, folders, tmp_path):
    from unified.cli import main

    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for number, path in enumerate(paths):
        Image.fromarray(picture(number)).save(path)
    shown = [part for path in paths for part in ("--image", str(path))]
    options = ["--model", str(folders.folder("gemma3")), "--dtype", "float32", "--device", "cpu"]
    assert main(["ask", "Where?", *shown, *options]) == 0
    assert capsys.readouterr().out.strip() == loaded("gemma3").ask("Where?", [picture(0), picture(1)])


def test_info(loaded, capsys, folders):
    from unified.cli import main

    assert main(["info", "--model", str(folders.folder("gemma3")), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["family"], told["reads_images"], told["draws"]) == ("gemma3", True, False)
    assert main(["info", "--model", str(folders.folder("gemma3"))]) == 0
    lines = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:9])
    assert (lines["reads images"], lines["draws"]) == ("yes", "no")


# A model of text alone --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "qwen2"
    words = families.tokenizer(families.Family({}, "", lambda _: ([], None)))
    words.chat_template = families.template(families.Family({}, "", lambda _: ([], None)))
    words.save_pretrained(folder)
    config = transformers.Qwen2Config(**families.TEXT, vocab_size=len(words), eos_token_id=words.eos_token_id)
    model = transformers.Qwen2ForCausalLM(config)
    families.spread(model)
    model.save_pretrained(folder)
    return folder


def test_a_text_model_answers_and_sees_nothing(text_folder):
    model = unified.load(text_folder, device="cpu", dtype="float32")
    prompt = model.processor.prompt([{"role": "user", "content": "Where?"}])
    ids = model.model.pretrained.generate(**prompt.tensors(), max_new_tokens=8, do_sample=False)[0]
    assert model.ask("Where?", max_tokens=8) == model.processor.text(ids[len(prompt.ids) :]).strip()
    with pytest.raises(ValueError, match=r"^this model reads text only"):
        model.ask("Where?", picture(1))


def test_it_is_an_assistant_of_its_own_kind(loaded):
    assert isinstance(loaded("gemma3"), ImageTextAssistant)
    assert isinstance(loaded("gemma3").processor, PretrainedProcessor)


def test_grounded_answers_are_set_off_against_those_without_the_images(loaded):
    model = loaded("gemma3")

    def answer(images, contrast):
        content = [*({"type": "image", "image": one} for one in images), {"type": "text", "text": "Where?"}]
        prompt = model.processor.prompt([{"role": "user", "content": content}])
        session = open_session(model.model, [prompt], 0)
        list(said(session, model.model, Sampler(temperature=0), 8, contrast=contrast))
        return session.streams[0][len(prompt.ids) :]

    strong = MutualInformation(decay=3.0, plausible=0.0)
    assert answer([], strong) == answer([], 0.0)  # there is nothing to set off against
    assert answer([picture(1)], strong) != answer([picture(1)], 0.0)
    assert isinstance(model.ask("Where?", picture(1), grounded=True, max_tokens=6), str)
