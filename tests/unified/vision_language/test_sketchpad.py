"""Latent sketches of real image-text classes: features, whole passes, generation with a cache."""

import pytest
import sketch_models as models
import torch

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.stream.base_words import FEATURES, PLACES
from unified.vision_language.sketchpad.families import frozen_features
from unified.vision_language.sketchpad.files import load_head, save_head
from unified.vision_language.sketchpad.model import Images, Sketchpad, head_for, in_a_line
from unified.vision_language.sketchpad.thinking import Sketch, SketchRule, think

CLOSE = 1e-4
EVERY = pytest.mark.parametrize("name", models.FAMILIES)


def prompted(folders, name, number=0):
    _, processor = folders.load(name)
    return processor.prompt(models.talk(first=number)[:1])


# Features ---------------------------------------------------------------------------------------------------


@EVERY
def test_the_connector_in_two_halves_is_the_model_s_own(folders, name):
    """Windows of the vision tower are undone: features stand in the order of their placeholders."""
    reader, processor = folders.load(name)
    pad = models.sketchpad((reader, processor))
    pictures = [models.picture(1), models.picture(2, 40, 24)]
    inputs = processor.pixels(pictures)
    images = pad.encode(inputs)
    found = torch.cat([latents.embeds for latents in pad.latents(images)])
    torch.testing.assert_close(found, reader.values(inputs)[FEATURES], atol=1e-5, rtol=0)
    assert [len(features) for features in images.features] == [
        len(part.vision) for part in pad.latents(images)
    ]
    assert not len(pad.encode({}))


def test_other_families_and_sizes_are_refused(folders):
    gemma, qwen = (models.sketchpad(folders.load(name)) for name in models.FAMILIES)
    with pytest.raises(ValueError, match="qwen3_vl has no latent sketches: choose a model of gemma3"):
        head_for(folders.load("qwen3_vl")[0], tokens=4, images=1)
    with pytest.raises(ValueError, match="the vision head is for widths"):
        Sketchpad(gemma.reader, qwen.head)


# Whole passes -----------------------------------------------------------------------------------------------


def whole_pass(pad, ids, images, written):
    return pad.states(torch.tensor([ids]), pad.values(images, written))


@EVERY
@torch.no_grad()
def test_a_pass_is_that_of_transformers(folders, name):
    """Drawn latents are causal there, too, once the model is not told that they are an image."""
    reader, processor = folders.load(name)
    pad, prompt = models.sketchpad((reader, processor)), prompted(folders, name)
    drawn = pad.encode(processor.pixels([models.picture(7)]))
    ids = [*prompt.ids, pad.begin, *[reader.image] * pad.tokens, pad.end, 20, 21]
    images = pad.encode(prompt.inputs).then(drawn)
    embeds, hidden = whole_pass(pad, ids, images, [False, True])
    table = torch.tensor([ids])
    kinds = (table == reader.image).int()
    options = {}
    if name == "gemma3":
        kinds[:, len(prompt.ids) :] = 0
        options["token_type_ids"] = kinds
    else:
        grids = {"image_grid_thw": images.grid, "mm_token_type_ids": kinds}
        options["position_ids"] = reader.pretrained.model.get_rope_index(table, **grids)[0]
    out = reader.pretrained(inputs_embeds=embeds, output_hidden_states=True, **options)
    torch.testing.assert_close(hidden, out.hidden_states[-1], atol=CLOSE, rtol=0)


@EVERY
@torch.no_grad()
def test_a_latent_sees_no_later_one(folders, name):
    reader, processor = folders.load(name)
    pad, prompt = models.sketchpad((reader, processor)), prompted(folders, name)
    images = pad.encode(prompt.inputs).then(pad.encode(processor.pixels([models.picture(7)])))
    ids = [*prompt.ids, pad.begin, *[reader.image] * pad.tokens, pad.end]
    before = whole_pass(pad, ids, images, [False, True])[1]
    changed = Images([images.features[0], images.features[1].clone()], images.grid)
    changed.features[1][-pad.connector.merge :] += 1
    after = whole_pass(pad, ids, changed, [False, True])[1]
    last = len(ids) - 2
    assert torch.equal(before[:, :last], after[:, :last])
    assert (before[:, last:] - after[:, last:]).abs().max() > 1e-3
    read = whole_pass(pad, ids, changed, [False, False])[1]  # an image that is given is seen as a whole
    assert bool((read[:, last - 1] != after[:, last - 1]).any()) == (name == "gemma3")


# Generation -------------------------------------------------------------------------------------------------


class Always:
    """A model that says the same ids over and over: where it is interrupted is told by the rule alone."""

    def __init__(self, ids):
        self.ids, self.said = ids, 0

    def draw(self, logits, noise, places):
        token = self.ids[self.said % len(self.ids)]
        self.said += 1
        return Sampler(temperature=0).draw(
            torch.nn.functional.one_hot(torch.tensor([[[token]]]), logits.shape[-1]).float(), noise, places
        )


def spelled(processor, words):
    return processor.tokenizer(words, add_special_tokens=False)["input_ids"]


def thought(folders, name, ids, rule=None, **options):
    reader, processor = folders.load(name)
    pad = models.sketchpad((reader, processor), **options)
    rule = rule or SketchRule(sketches=2)
    made = think(pad, processor, prompted(folders, name), rule, sampler=Always(ids))
    list(made)
    return pad, made


@EVERY
def test_a_sketch_follows_the_closing_tag(folders, name):
    words = spelled(folders.load(name)[1], "red</actions>")
    pad, made = thought(folders, name, words)
    assert [type(part) for part in made.parts] == [str, Sketch, str, Sketch, str]
    assert made.parts[0].endswith("</actions>")
    assert made.stopped == "sketches"
    assert made.parts[1].features.shape == (pad.tokens * pad.connector.merge, 32)
    stream = made.session.streams[0]
    start = stream.index(pad.begin, len(prompted(folders, name).ids))
    assert stream[start + 1 : start + pad.tokens + 2] == [pad.reader.image] * pad.tokens + [pad.end]


@EVERY
@torch.no_grad()
def test_latents_one_by_one_are_those_of_one_pass(folders, name):
    """Of all that was generated: the latents of both sketches, and what follows them."""
    words = spelled(folders.load(name)[1], "red</actions>")
    pad, made = thought(folders, name, words)
    session, ids = made.session, made.session.streams[0]
    session.read_pending()
    sketches = [part.features for part in made.parts if isinstance(part, Sketch)]
    given = made.images
    values = pad.values(given, [False] * len(given))
    drawn = pad.connector.embeds(torch.stack(sketches)).flatten(0, 1)
    values[FEATURES] = torch.cat([values[FEATURES], drawn])
    if PLACES in values:
        values[PLACES] = torch.cat([values[PLACES], *[pad.places(given.only([-1 + len(given)]))] * 2])
    else:
        values[PLACES] = torch.cat([in_a_line(pad.tokens, own) for own in (False, True, True)])
    embeds, hidden = pad.states(torch.tensor([ids]), values)
    torch.testing.assert_close(hidden[:, -1], session.last, atol=CLOSE, rtol=0)
    marks = torch.tensor([ids]) == pad.reader.image
    places = marks[0].nonzero()[:, 0].split(pad.tokens)
    for number, features in enumerate(sketches):
        prefix, own = torch.zeros_like(marks), torch.zeros_like(marks)
        prefix[0, torch.cat(places[: number + 1])] = True
        own[0, places[number + 1]] = True
        found = pad.predict(embeds, hidden, prefix, own).vision[0]
        torch.testing.assert_close(features, found, atol=CLOSE, rtol=0)


@EVERY
@torch.no_grad()
def test_text_after_a_sketch_sees_it(folders, name):
    """Another sketch in its place changes what follows; a further image in the prompt changes the sketch."""
    reader, processor = folders.load(name)
    pad, prompt = models.sketchpad((reader, processor)), prompted(folders, name)
    base = pad.encode(prompt.inputs)
    ids = [*prompt.ids, pad.begin, *[reader.image] * pad.tokens, pad.end]
    follows = []
    for number in (7, 8):
        images = base.then(pad.encode(processor.pixels([models.picture(number)])))
        session = Session(reader)
        session.feed(ids, values=pad.values(images, [False, True]))
        follows.append(reader.all_logits(session.last).log_softmax(-1))
    assert (follows[0] - follows[1]).abs().max() > 0.01
    words = spelled(processor, "red</actions>")
    sketches = []
    for number in (0, 50):
        rule = SketchRule(sketches=1)
        made = think(pad, processor, prompted(folders, name, number), rule, sampler=Always(words))
        sketches.append(next(part.features for part in made if isinstance(part, Sketch)))
    assert (sketches[0] - sketches[1]).abs().max() > 1e-3


@EVERY
def test_a_model_may_open_an_image_itself(folders, name):
    reader, processor = folders.load(name)
    pad = models.sketchpad((reader, processor))
    ids = [*spelled(processor, "red</actions>"), pad.begin]
    rule = SketchRule(closer=None, sketches=1)
    made = think(pad, processor, prompted(folders, name), rule, sampler=Always(ids))
    list(made)
    assert [type(part) for part in made.parts] == [str, Sketch, str]
    assert made.session.streams[0].count(pad.begin) == prompted(folders, name).ids.count(pad.begin) + 2
    assert made.stopped == "sketches"


def test_why_an_answer_ends(folders):
    reader, processor = folders.load("gemma3")
    red = spelled(processor, "red")
    end = next(iter(reader.ends))
    assert thought(folders, "gemma3", red, SketchRule(max_tokens=4))[1].stopped == "length"
    _, made = thought(folders, "gemma3", [*red, end])
    assert made.stopped == "end"
    assert made.parts == ["red"]
    words = spelled(processor, "</actions>")
    _, made = thought(folders, "gemma3", words, SketchRule(sketches=9), images=2)
    assert made.stopped == "sketches"  # the prefix has room for two images, one of them the question's
    assert sum(isinstance(part, Sketch) for part in made.parts) == 1


def test_the_context_may_have_no_room_for_a_sketch(folders, monkeypatch):
    reader, processor = folders.load("gemma3")
    words = spelled(processor, "</actions>")
    room = len(prompted(folders, "gemma3").ids) + len(words) + 5
    monkeypatch.setattr(reader.decoder.config, "max_position_embeddings", room)
    _, made = thought(folders, "gemma3", words)
    assert made.stopped == "length"
    assert all(isinstance(part, str) for part in made.parts)


def test_pictures_that_cannot_be_drawn_after_are_refused(folders):
    reader, processor = folders.load("qwen2_5_vl")
    pad = models.sketchpad((reader, processor))
    ask = lambda images: processor.prompt([{"role": "user", "content": [*images, models.text("Where?")]}])  # noqa: E731
    with pytest.raises(ValueError, match="give an image"):
        think(pad, processor, ask([]), SketchRule())
    wide = {"type": "image", "image": models.picture(0, 24, 40)}
    with pytest.raises(ValueError, match="the last image has 15 positions, a sketch 9"):
        think(pad, processor, ask([wide]), SketchRule())
    with pytest.raises(ValueError, match="5 images, the vision head has room for 4"):
        think(pad, processor, ask([models.image(n) for n in range(5)]), SketchRule())
    with pytest.raises(ValueError, match="closer"):
        SketchRule(closer="")


def test_features_are_made_without_gradients(folders):
    reader, processor = folders.load("gemma3")
    inputs = processor.pixels([models.picture(1)])
    assert not frozen_features(reader.pretrained, inputs)[0].requires_grad


# Files ------------------------------------------------------------------------------------------------------


def test_a_head_is_saved_and_loaded(folders, tmp_path):
    pad = models.sketchpad(folders.load("gemma3"))
    save_head(tmp_path, pad.head)
    found = load_head(tmp_path)
    assert found.config == pad.head.config
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in pad.head.state_dict().items())
    (tmp_path / "vision_head.json").write_text('{"heads": 1, "depth": [1, 2]}')
    with pytest.raises(ValueError, match=r"vision_head.safetensors: weights do not fit"):
        load_head(tmp_path)
    (tmp_path / "vision_head.json").write_text('{"colour": 1}')
    with pytest.raises(ValueError, match=r"vision_head.json: .*colour"):
        load_head(tmp_path)
