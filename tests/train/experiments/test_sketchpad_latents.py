"""The arm that draws in latents, at toy size: its start, pieces and losses, other latents, the command."""

import json

import numpy as np
import pytest
import torch
from unified.tasks.mazes.fill_task import MazeFillTask
from unified.train.experiments.sketchpad.__main__ import main
from unified.train.experiments.sketchpad.arms import ARMS, TOY, texts
from unified.train.experiments.sketchpad.codec import codes_of, picture_of
from unified.train.experiments.sketchpad.latents import solving
from unified.train.experiments.sketchpad.latents.model import Painter, encode, start
from unified.train.experiments.sketchpad.latents.training import Trainer, changed_cells, sketches_of
from unified.train.experiments.sketchpad.solving import substitutes
from unified.train.experiments.sketchpad.traces import told

from unified.vision_language.sketchpad.thinking import Sketch

TASK = MazeFillTask()


@pytest.fixture(scope="module")
def begun():
    pad, processor = start(texts()[:40], TOY.latents, 3, 0)
    pad.reader.pretrained.eval().requires_grad_(False)
    pad.head.requires_grad_(False)
    for weight in [*pad.reader.decoder.layers.parameters(), *pad.head.parameters()]:
        weight.mul_(5)  # so that what is read changes what is said and drawn
    return pad, processor


@pytest.fixture(scope="module")
def traces():
    return [told("path", TASK, number) for number in range(4)]


def pictures(one):
    return [picture_of(codes) for codes in one.pictures]


def test_latents_lose_nothing_and_can_be_painted(begun, traces):
    pad, processor = begun
    paint = Painter(pad)
    for one in traces[:2]:
        for codes, picture in zip(one.pictures, pictures(one), strict=True):
            np.testing.assert_array_equal(codes_of(picture), codes)
        images = encode(pad, pictures(one))
        again = pad.encode(processor.pixels(pictures(one)))  # what a user's pictures become
        torch.testing.assert_close(images.features[-1], again.features[-1], atol=1e-5, rtol=0)
        for picture, latents in zip(pictures(one), pad.latents(images), strict=True):
            np.testing.assert_array_equal(paint(latents.vision), picture)


def test_changed_cells_are_those_of_the_next_stretch(traces):
    one = max(traces, key=len)
    changed = changed_cells(one.pictures)
    assert changed.shape == (len(one), 64)
    before, after = pictures(one)[:2]
    apart = (before != after).reshape(8, 8, 8, 8, 3).any(axis=(1, 3, 4)).reshape(-1)
    np.testing.assert_array_equal(changed[0].numpy(), apart)
    assert 1 < int(changed[0].sum()) < 12


def test_each_sketch_is_predicted_from_the_pictures_before_it(begun, traces):
    pad, processor = begun
    trainer = Trainer(pad, processor, "path", traces, 0)
    one = max(traces, key=len)
    piece = trainer.piece(one, 0, 3)
    ids, labels = torch.tensor([piece.row.ids]), piece.row.labels
    image = ids == pad.reader.image
    rows, prefix, drawn = sketches_of(image, pad.tokens)
    assert len(rows) == min(len(one), 3) == len(piece.changed)
    assert prefix.sum(dim=1).tolist() == [64 * number for number in range(1, len(rows) + 1)]
    assert (prefix | drawn)[-1].equal(image[0])
    assert labels.count(pad.begin) == len(rows) + (len(one) > 3)
    assert pad.reader.image not in labels
    assert (pad.reader.vocabulary.end in labels) == (len(one) <= 3)
    assert trainer.piece(one, 0, 1).row.labels[-1] == pad.begin  # the next sketch is begun


def test_words_and_latents_are_learned(traces):
    pad, processor = start(texts()[:40], TOY.latents, 3, 0)
    trainer = Trainer(pad, processor, "path", traces, 0)
    tower = {k: v.clone() for k, v in pad.reader.pretrained.model.vision_tower.state_dict().items()}
    pieces = [trainer.piece(one, 0, 2) for one in traces]
    with torch.no_grad():
        first = [float(loss) for loss in trainer.losses(pieces)]
    trainer.drawn = lambda most: pieces[0]
    done, *_ = trainer.run(20, 1, 2, 2e-2, None)
    with torch.no_grad():
        last = [float(loss) for loss in trainer.losses(pieces[:1])]
    assert done == 20
    assert last[0] < 0.75 * first[0]
    assert last[1] < 0.9 * first[1]
    kept = pad.reader.pretrained.model.vision_tower.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in tower.items())


@pytest.fixture
def solver(begun, monkeypatch):
    """One that opens a sketch after every id, wherever it may."""
    pad, processor = begun
    plain = type(pad.reader).text_logits

    def logits(hidden):
        found = plain(pad.reader, hidden)
        found[..., pad.begin] = found.amax(dim=-1) + 1
        return found

    monkeypatch.setattr(pad.reader, "text_logits", logits)

    def made(**options):
        return solving.Solver(pad, processor, "path", 2, TOY.mazes, **options)

    return made


def sketches(answer):
    return [item["image"] for item in answer.content if item["type"] == "image"]


def test_latents_that_are_given_are_read_in_the_place_of_its_own(begun, solver, traces):
    """They change what the model says next, on the first page and on later ones, which begin with them."""
    pad, _ = begun
    one = max(traces, key=len)
    shown = pictures(one)
    features = encode(pad, shown).features
    given = lambda maze, sketch: features[min(sketch + 1, len(one))]  # noqa: E731
    answer = solver()(shown[0], 0, given)
    wanted = [shown[min(sketch + 1, len(one))] for sketch in range(4)]
    assert answer.cut == "sketches"
    np.testing.assert_array_equal(sketches(answer), wanted)
    images = encode(pad, shown[:1])
    ids = solver().processor.prompt(solving.question("path", shown[0])).ids
    states = []
    for source in (given, lambda maze, sketch: features[0]):
        thinking = solver()._thinking(ids, images)
        thinking.given = solving._shifted(source, 0, 0)
        assert [type(part) for part in thinking] == [Sketch, Sketch]
        states.append(pad.reader.all_logits(thinking.session.last).log_softmax(dim=-1))
    assert (states[0] - states[1]).abs().max() > 5e-3


def test_own_latents_are_read_as_if_they_had_been_given(begun, solver, traces):
    pad, _ = begun
    picture = pictures(traces[0])[0]
    ids = solver().processor.prompt(solving.question("path", picture)).ids
    own = solver()._thinking(ids, encode(pad, [picture]))
    drawn = [part.features for part in own]
    again = solver()._thinking(ids, encode(pad, [picture]))
    again.given = lambda sketch: drawn[sketch]
    read = [part.features for part in again]
    torch.testing.assert_close(torch.stack(read), torch.stack(drawn), atol=1e-3, rtol=0)
    torch.testing.assert_close(again.session.last, own.session.last, atol=1e-3, rtol=0)


def test_a_model_that_may_not_draw_draws_nothing(solver, traces):
    answer = solver(allowed=False)(pictures(traces[0])[0])
    assert not sketches(answer)


def test_noise_and_blank_ones_have_the_length_of_features(begun):
    pad, _ = begun
    samples = [TASK.sample(number) for number in range(2)]
    for shown in ("noise", "blank", "another's", "true"):
        given = solving.features_given(pad, substitutes("path", shown, samples, 1, 0), shown, 0)
        found = pad.finished(given(1, 0)).vision
        torch.testing.assert_close(found.pow(2).mean(dim=-1), torch.ones(64), atol=1e-3, rtol=0)
        assert torch.equal(given(1, 0), given(1, 0))


def test_the_arm_is_run_and_goes_on_where_it_was(tmp_path, capsys):
    words = [
        "latents",
        "--toy",
        "--seeds",
        "0",
        "--out",
        str(tmp_path / "out"),
        "--work",
        str(tmp_path / "work"),
    ]
    assert main(words) == 0
    assert "| latents | another's |" in capsys.readouterr().out
    path = tmp_path / "out" / "latents-0.json"
    result = json.loads(path.read_text())
    assert set(result["solved"]) == set(ARMS["latents"].shown)
    assert result["solved"]["none"]["3"]["images"] == 0
    result["solved"]["own"]["3"]["success"] = 2  # what is there is not measured again
    del result["solved"]["true"]["6"]
    path.write_text(json.dumps(result))
    weights = tmp_path / "work" / "latents-0" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert main(words) == 0
    again = json.loads(path.read_text())
    assert again["solved"]["own"]["3"]["success"] == 2
    assert set(again["solved"]["true"]) == {"3", "6"}
    assert weights.stat().st_mtime_ns == written
