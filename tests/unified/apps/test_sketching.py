"""Sketches the model decides on: limits, cuts with a reason, coarse images; a trace as a page."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from unified.apps.answering import GREEDY, GenerationSettings, Turn, images_of
from unified.apps.assistant import Assistant
from unified.apps.conversation import Painted
from unified.apps.demo import random_model
from unified.apps.page import save_trace, side_by_side, trace_page
from unified.apps.pages import answers_by_pages
from unified.apps.sketching import SketchLimits, Watch, by_shapes
from unified.apps.solving import SKETCHING
from unified.decoding.session import Session
from unified.layout.layout import Layout
from unified.stream.segments import well_formed

SHAPES = ((1, 1), (2, 2), (4, 4))
PROMPTS = [[{"role": "user", "content": text}] for text in ("Go.", "Go on now.", "A")]


@pytest.fixture(scope="module")
def parts():
    return random_model()


def turn_of(parts, settings, prompts=PROMPTS[:1]):
    model, processor = parts
    session = Session(model, rows=len(prompts))
    session.feed([processor.encode(prompt, prompt=True) for prompt in prompts])
    turn = Turn(session, processor, SHAPES, settings)
    events = list(turn.events())
    return turn, events


def settings(**limits):
    return GenerationSettings(sketches=SketchLimits(**limits), max_tokens=40, image_sampler=GREEDY)


@pytest.fixture
def drawing(monkeypatch):
    """A model that opens an image wherever it may."""
    model, processor = random_model()
    monkeypatch.setattr(model, "text_logits", _always(model, model.vocabulary.write))
    return model, processor


def _always(model, token):
    plain = model.text_logits

    def logits(hidden):
        found = plain(hidden)
        found[..., token] = found.amax(dim=-1) + 1
        return found

    return logits


def test_a_trace_that_draws_without_stop_is_cut_and_kept(drawing):
    turn, _ = turn_of(drawing, settings(images=3))
    content = turn.content(0)
    assert [item["type"] for item in content] == ["image"] * 3
    assert turn.cuts == ["it draws without stop: another image after 3, the limit"]
    assert turn.session.streams[0][-1] == drawing[0].vocabulary.end


def test_a_trace_that_never_ends_is_cut_and_kept(parts):
    model, _ = parts
    turn, _ = turn_of(parts, GenerationSettings(sketches=SketchLimits(), max_tokens=7, allow_images=False))
    assert turn.cuts == ["it never ended: 7 ids of text, the limit"]
    assert len(turn.session.streams[0][turn.starts[0] :]) == 8
    turn, _ = turn_of(parts, GenerationSettings(sketches=SketchLimits(ids=5), allow_images=False))
    assert turn.cuts == ["it never ended: 5 ids, the limit"]
    assert turn.session.streams[0][-1] == model.vocabulary.end


def test_an_image_that_would_go_over_the_ids_is_not_begun(drawing):
    one = sum(h * w for h, w in SHAPES)
    turn, _ = turn_of(drawing, settings(ids=one + 10))
    assert turn.images == [0] or turn.images == [1]
    assert "longer than" in turn.cuts[0] or "never ended" in turn.cuts[0]
    assert len(turn.session.streams[0]) - turn.starts[0] <= 3 * one


def test_time_that_is_over_in_an_image_leaves_none_of_it(drawing):
    seconds = iter(range(10_000))
    model, processor = drawing
    session = Session(model)
    session.feed(processor.encode(PROMPTS[0], prompt=True))
    limits = SketchLimits(seconds=4)
    turn = Turn(session, processor, SHAPES, GenerationSettings(sketches=limits))
    turn.watch = Watch(limits, clock=lambda: next(seconds))
    list(turn.events())
    assert turn.cuts == ["it took longer than 4 seconds"]
    kept = turn.content(0)
    assert all(item["image"].shape == (32, 32, 3) for item in kept)
    assert len(kept) == turn.images[0] < 3
    model(torch.tensor([session.streams[0]]))  # a whole, well-formed stream


def test_rows_are_cut_one_by_one(drawing):
    turn, _ = turn_of(drawing, settings(images=2), PROMPTS)
    alone = [turn_of(drawing, settings(images=2), [prompt])[0] for prompt in PROMPTS]
    for row, one in enumerate(alone):
        assert turn.cuts[row] == one.cuts[0]
        for found, wanted in zip(turn.content(row), one.content(0), strict=True):
            np.testing.assert_array_equal(found["image"], wanted["image"])


def test_without_limits_the_model_may_open_no_more_images(drawing):
    turn, _ = turn_of(drawing, GenerationSettings(max_images=2, max_tokens=12))
    assert turn.images == [2]
    assert turn.cuts[0] in ("", "it never ended: 12 ids of text, the limit")


def test_a_coarse_image_is_written_up_to_its_map(parts, monkeypatch):
    """An image after the text that asks for a coarse one has the first maps alone."""
    model, processor = random_model()
    letter = "a"
    token = processor.stream.text.encode(letter)[0]
    plain, said = model.text_logits, []

    def logits(hidden):
        found = plain(hidden)
        said.append(0)
        found[..., token if len(said) % 2 else model.vocabulary.write] = found.amax() + 1
        return found

    monkeypatch.setattr(model, "text_logits", logits)
    limits = SketchLimits(images=2, coarse_after=letter, coarse_maps=2)
    turn, _ = turn_of((model, processor), GenerationSettings(sketches=limits, max_tokens=20))
    content = turn.content(0)
    assert [item["type"] for item in content] == ["text", "image", "text", "image", "text"]
    assert [item["image"].shape[0] for item in content if "image" in item] == [16, 16]


def test_text_after_a_sketch_sees_it_and_a_cached_continuation_equals_a_full_pass(drawing):
    """Another sketch in its place changes what follows; the session's states are those of one pass."""
    model = drawing[0]
    turn, _ = turn_of(drawing, settings(images=1))
    words, ids = model.vocabulary, turn.session.streams[0][:-1]
    session = Session(model)
    session.feed(ids)
    cached = model.text_logits(session.last).float()
    table = torch.tensor([ids])
    whole = model.text_logits(model.states(table, Layout.of(table, words))[0][:, -1])
    torch.testing.assert_close(cached, whole, atol=1e-4, rtol=1e-4)
    read = max(place for place, token in enumerate(ids) if token == words.read)
    other = list(ids)
    for place in range(read, len(ids)):
        if words.visual_start <= other[place] < words.action_start:
            other[place] = words.visual_start + (other[place] - words.visual_start + 7) % words.visual
    changed = Session(model)
    changed.feed(other)
    assert not torch.allclose(model.text_logits(changed.last).softmax(-1), cached.softmax(-1), atol=1e-6)


def test_ids_that_mix_an_image_and_words_are_cut_where_they_do(parts):
    model, processor = parts
    words = model.vocabulary
    said = processor.stream.text.encode("so")
    start = [words.begin, words.assistant, *said]
    half = [*words.open_write("next_scale", [(1, 1), (2, 2)]), words.visual_start, *said, words.close]
    kept, why = well_formed([*start, *half], words)
    assert kept == start
    assert "has 1 codes" in why
    assert "need 5" in why
    assert processor.decode(kept)[0]["content"] == [{"type": "text", "text": "so"}]
    kept, why = well_formed([*start, words.visual_start + 3, *said], words)
    assert (kept, "stands outside an image" in why) == (start, True)
    whole = [*start, *words.read_segment([1, 2, 3, 4], [(2, 2)]), words.end]
    assert well_formed(whole, words) == (whole, "")
    kept, why = well_formed([*start, *half, words.size + 5], words)
    assert kept == start


def test_solving_streams_and_returns_what_was_streamed(drawing):
    assistant = Assistant(*drawing, side=32)
    heard = []
    maze = np.zeros((32, 32, 3), np.uint8)
    solution = assistant.solve(maze, limits=SketchLimits(images=2), hear=heard.append)
    assert len(solution.sketches) == 2
    assert "without stop" in solution.cut
    painted = [event.image for event in heard if isinstance(event, Painted)]
    for one, other in zip(painted, solution.sketches, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_long_trace_goes_on_from_its_latest_sketch(drawing):
    """Page by page a picture is answered as if each page's last sketch had been asked about; a batch of
    pictures is answered as each alone."""
    assistant, prompt = Assistant(*drawing, side=32), "Go."
    mazes = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 255)]
    solutions = [assistant.solve(m, limits=SketchLimits(images=4), page=2, prompt=prompt) for m in mazes]
    for maze, solution in zip(mazes, solutions, strict=True):
        assert len(solution.sketches) == 4
        assert "without stop" in solution.cut
        pages = [maze, solution.sketches[1]]
        for number, picture in enumerate(pages):
            alone = assistant.solve(picture, limits=SketchLimits(images=2), prompt=prompt)
            for one, other in zip(alone.sketches, solution.sketches[2 * number :], strict=False):
                np.testing.assert_array_equal(one, other)

    def ask(picture):
        content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
        return [{"role": "user", "content": content}]

    found = answers_by_pages(
        *drawing, mazes, ask, replace(SKETCHING, sketches=SketchLimits(images=4)), page=2
    )
    for answer, solution in zip(found, solutions, strict=True):
        assert answer.cut == solution.cut
        for one, other in zip(images_of(answer.content), solution.sketches, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="give limits"):
        assistant.solve(mazes[0], page=2)
    with pytest.raises(ValueError, match="page must be"):
        assistant.solve(mazes[0], page=0, limits=SketchLimits())


def test_a_page_holds_everything_and_escapes_text(tmp_path):
    question, sketch = np.zeros((8, 8, 3), np.uint8), np.full((4, 4, 3), 200, np.uint8)
    content = [
        {"type": "text", "text": "<actions>go & turn</actions>"},
        {"type": "image", "image": sketch},
        {"type": "text", "text": " \n"},
    ]
    page = trace_page(question, content, title="A <maze>", cut="it never ended")
    assert "&lt;actions&gt;go &amp; turn&lt;/actions&gt;" in page
    assert "A &lt;maze&gt;" in page
    assert "<actions>" not in page
    assert page.count("<img ") == 2
    assert page.count("<pre>") == 1
    assert "The answer was cut: it never ended." in page
    files = save_trace(tmp_path / "deep" / "er", question, content, title="x")
    with Image.open(files[1]) as strip:
        assert strip.size == (8 + 4 + 4, 8)
    assert side_by_side([question]).shape == (8, 8, 3)


def test_rows_of_the_same_maps_draw_together():
    fine, coarse = SHAPES, SHAPES[:2]
    assert by_shapes([fine, None, coarse, fine]) == [
        (fine, [True, False, False, True]),
        (coarse, [False, False, True, False]),
    ]
    assert by_shapes([None, None]) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": -1}, "images"),
        ({"ids": 0}, "ids"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"coarse_maps": 2}, "coarse_after"),
        ({"coarse_after": "x"}, "coarse_maps"),
    ],
)
def test_bad_limits_are_refused(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        SketchLimits(**change)
    assert "\n" not in str(caught.value)
