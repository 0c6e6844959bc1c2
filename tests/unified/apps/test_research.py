"""What a researcher calls: batches, log-probabilities, attention maps, codes, Pillow, `repr`."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from unified.tasks.mazes import MazeConfig, MazeTask
from unified.tasks.scenes import random_scene, render

import unified.apps.asking
import unified.apps.drawing
import unified.backbone.attention
from unified.apps.assistant import Assistant
from unified.apps.attention_maps import attention_weights
from unified.apps.demo import random_model
from unified.apps.looking import LOOKING
from unified.apps.solving import is_maze
from unified.decoding.session import Session
from unified.layout.layout import Layout
from unified.stream.segments import Kind


@pytest.fixture(scope="module")
def assistant():
    return Assistant(*random_model(), side=32)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """A random model never ends a list or the words before an image."""
    monkeypatch.setattr(unified.apps.asking, "LOOKING", replace(LOOKING, max_tokens=8))
    for name in ("DRAWING", "EDITING"):
        settings = replace(getattr(unified.apps.drawing, name), max_tokens=4)
        monkeypatch.setattr(unified.apps.drawing, name, settings)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


# Batches and log-probabilities --------------------------------------------------------------------------


def test_many_questions_are_answered_as_each_alone(assistant):
    questions = ["What?", "A longer question?", "Where?", "Both?"]
    images = [picture(1), None, picture(2), [picture(3), picture(4)]]
    together = assistant.answers(questions, images, max_tokens=6)
    pairs = zip(questions, images, strict=True)
    assert together == [assistant.ask(question, image, max_tokens=6) for question, image in pairs]
    content = [{"type": "image", "image": picture(1)}, {"type": "text", "text": "What?"}]
    said = [{"role": "user", "content": content}]
    assert assistant.answers([said], max_tokens=6) == together[:1]


@pytest.mark.parametrize(
    ("questions", "images", "message"),
    [
        ("What?", None, "ask takes one"),
        (["a?", "b?"], [picture()], "2 questions need as many images"),
        ([[{"role": "user", "content": "Hi"}]], [picture()], "leave them out"),
        ([[{"role": "assistant", "content": "Hi"}]], None, "ends with a message of the user"),
    ],
)
def test_what_does_not_fit_is_one_line(assistant, questions, images, message):
    with pytest.raises(ValueError, match=message):
        assistant.answers(questions, images)


def test_log_probabilities_are_those_of_the_model(assistant):
    model, processor = assistant.model, assistant.processor
    answer = assistant.ask("What?", picture(), look=False, max_tokens=6, log_probs=True)
    assert assistant.ask("What?", picture(), look=False, max_tokens=6).tokens == ()
    ids, last = [token.id for token in answer.tokens], answer.tokens[-1]
    assert processor.stream.text.decode(ids[:-1]).strip() == answer
    assert last.text == "<|end|>"
    assert math.isnan(last.log_prob)  # cut: the model has not said it
    prompt = processor.encode(assistant.request("What?", picture()), prompt=True)
    scores = model(torch.tensor([[*prompt, *ids]])).log_probs[0, len(prompt) : -1]
    np.testing.assert_allclose([token.log_prob for token in answer.tokens[:-1]], scores.detach(), atol=1e-4)


# Inside ---------------------------------------------------------------------------------------------------


def test_attention_maps_are_the_naive_softmax(assistant, monkeypatch):
    model, processor, text = assistant.model, assistant.processor, "Two."
    maps = assistant.attention(picture(), "How many?", text)
    prompt = processor.encode(assistant.request("How many?", picture()), prompt=True)
    ids = [*prompt, *processor.stream.text.encode(text)]
    layout = Layout.of(torch.tensor([ids]), model.vocabulary)
    seen, sdpa = [], unified.backbone.attention.sdpa

    def spy(query, key, value, what, scale):
        seen.append((query[0], key[0], what.mask[0, 0], scale))
        return sdpa(query, key, value, what, scale)

    monkeypatch.setattr(unified.backbone.attention, "sdpa", spy)
    with torch.no_grad():
        model.states(torch.tensor([ids]), layout)
    height, width = maps.weights.shape[3:]
    codes = [n for n, token in enumerate(ids) if bool(model.vocabulary.is_visual(torch.tensor(token)))]
    places = sorted({int(layout.merging.position[0, n]) for n in codes})
    assert len(places) == height * width
    assert {int(layout.index.kind[0, n]) for n in codes} == {int(Kind.READ)}
    for layer, (query, key, mask, scale) in enumerate(seen):
        for head in (0, len(query) - 1):
            for token in range(len(maps.tokens)):
                place = int(layout.merging.position[0, len(prompt) + token - 1])
                keys = [n for n in range(mask.shape[1]) if mask[place, n]]
                shared = key[head * len(key) // len(query)]
                scores = {n: math.exp(float(query[head, place] @ shared[n]) * scale) for n in keys}
                expected = [scores[n] / sum(scores.values()) for n in places]
                np.testing.assert_allclose(maps.weights[layer, head, token].ravel(), expected, atol=1e-5)
    assert maps.mean().shape == (len(maps.tokens), height, width)
    assert "".join(maps.tokens) == text


def test_rows_of_attention_are_distributions(assistant):
    ids = assistant.processor.encode(assistant.request("Hi", picture()), prompt=True)
    weights = attention_weights(assistant.model, ids)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]))
    with pytest.raises(ValueError, match="no image"):
        assistant.attention([], "Hi", "a")


def test_codes_are_what_the_model_reads_and_decode_to_a_picture(assistant):
    (codes,) = assistant.codes(picture())
    item = assistant.processor.image_item(picture())
    assert codes.ravel().tolist() == item["codes"]
    decoded = assistant.processor.picture(item)
    for given in (codes, [codes]):
        assert np.array_equal(assistant.picture(given), decoded)
    with pytest.raises(ValueError, match="codes are 0 to"):
        assistant.picture(codes + 10**6)


@pytest.mark.parametrize("name", ["output_attentions", "output_hidden_states"])
def test_what_is_asked_of_other_models_is_not_passed_over(assistant, name):
    ids = torch.tensor([assistant.processor.encode(assistant.request("Hi"), prompt=True)])
    assistant.model(ids, **{name: False})
    with pytest.raises(ValueError, match=name):
        assistant.model(ids, **{name: True})
    with pytest.raises(ValueError, match=name):
        assistant.model.generate(ids, max_new_tokens=1, **{name: True})


# Images and objects ---------------------------------------------------------------------------------------


def test_pillow_in_and_out(assistant):
    drawn = assistant.draw("A star.", as_pil=True)
    assert isinstance(drawn, Image.Image)
    assert np.array_equal(np.asarray(drawn), assistant.draw("A star."))
    assert assistant.edit(drawn, "Turn it.", as_pil=True).size == drawn.size


def test_floats_are_read_by_one_rule(assistant):
    image = picture()
    assert np.array_equal(assistant.picture(image / 255), image)
    assert np.array_equal(assistant.picture(torch.from_numpy(image / 127.5 - 1).permute(2, 0, 1)), image)
    with pytest.raises(ValueError, match="give levels of 0 to 255 as uint8"):
        assistant.picture(image.astype(np.float32))


def test_objects_say_what_they_are(assistant):
    session = Session(assistant.model)
    session.feed(assistant.processor.encode(assistant.request("Hi", picture()), prompt=True))
    layout = Layout.of(torch.tensor(session.streams), assistant.model.vocabulary)
    for thing, words in ((assistant, "Assistant("), (session, "Session(1 row of "), (layout, "Layout(1 x ")):
        assert repr(thing).startswith(words)
        assert len(repr(thing)) < 120
        assert "\n" not in repr(thing)
    assert "parameters, float32 on cpu" in repr(assistant.model).splitlines()[1]


def test_mazes_are_told_from_scenes():
    task = MazeTask(MazeConfig(image_size=64))
    messages = [task.sample(number, "test").messages for number in range(20)]
    mazes = [
        np.asarray(item["image"])
        for said in messages
        for item in said[0]["content"]
        if item["type"] == "image"
    ]
    scenes = [render(random_scene(np.random.default_rng(number), "test"), 64) for number in range(60)]
    assert len(mazes) == 20
    assert all(map(is_maze, mazes))
    assert not any(map(is_maze, scenes))
