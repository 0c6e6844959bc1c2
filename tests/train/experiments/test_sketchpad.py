"""The sketchpad experiment at toy size: codec, traces, training, other sketches, results."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from unified.tasks.mazes.fill_task import MazeFillTask
from unified.tasks.mazes.maze_task import maze_of
from unified.tasks.mazes.metrics import read_segments
from unified.tasks.mazes.tiles import draw_tiles
from unified.tasks.mazes.trace import images_of, text_of
from unified.tokenizers.images import to_images
from unified.train.experiments.sketchpad import results, solving, traces, training
from unified.train.experiments.sketchpad.__main__ import main
from unified.train.experiments.sketchpad.arms import ARMS, TOY, texts
from unified.train.experiments.sketchpad.codec import ModelSize, codes_of, start, tile_tokenizer
from unified.train.transition import transition_of

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.layout.layout import Layout
from unified.pretrained import load_model, save_model

TASK = MazeFillTask()


@pytest.fixture(scope="module")
def begun():
    return start(texts()[:40], TOY.size, 0)


def pictures_of(index, split="train"):
    sample = TASK.sample(index, split)
    return images_of([item for message in sample.messages for item in message["content"]])


# Codec --------------------------------------------------------------------------------------------


def test_the_codec_loses_nothing_and_its_codes_can_be_looked_up():
    visual = tile_tokenizer()
    pictures = np.stack([*pictures_of(0), *pictures_of(3, "compositional")])
    (codes,) = visual.encode(to_images(pictures))
    for picture, found in zip(pictures, codes, strict=True):
        np.testing.assert_array_equal(codes_of(picture), found.numpy())
    shown = visual.decode(codes, (16, 16))
    assert float((shown - to_images(pictures)).abs().max()) < 1e-3
    with pytest.raises(ValueError, match="no patch of a maze"):
        codes_of(np.full((8, 8, 3), 77, np.uint8))


def test_a_saved_start_draws_the_same(begun, tmp_path):
    model, processor = begun
    save_model(tmp_path, model, processor)
    loaded, again = load_model(tmp_path)
    picture = pictures_of(1)[0]
    assert again.image_item(picture) == processor.image_item(picture)
    assert again.image_item(picture)["codes"] == codes_of(picture).tolist()
    assert transition_of(loaded).words


def test_a_slot_says_what_the_transition_made():
    """Of a model that has learned nothing, whose transition is the identity, a sketch is the picture before
    it."""
    model, processor = start(texts()[:40], ModelSize(layers=1, channels=8), 0)
    picture = pictures_of(2)[0]
    ids = processor.encode(traces.question("fill", picture), prompt=True)
    session = Session(model.eval())
    session.feed(ids)
    drawing = session.draw([(16, 16)], sampler=Sampler(temperature=0))
    assert float((drawing.codes[0] == torch.from_numpy(codes_of(picture))).float().mean()) > 0.9


# Traces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", traces.FORMS)
def test_every_form_says_the_whole_way(form):
    for index in range(6):
        sample = TASK.sample(index)
        content = traces.FORMS[form](sample, np.random.default_rng(0))
        said = [action for part in read_segments(text_of(content)) for action in part]
        assert said == sample.meta["actions"]
        assert bool(images_of(content)) == (form in ("path", "fill"))
        score = TASK.score(sample, content)
        assert score["visual_success"] == float(form in ("path", "fill"))


def test_a_run_ends_where_its_action_does():
    for index in range(6):
        sample = TASK.sample(index)
        states = traces.runs(maze_of(sample))
        assert len(states) == len(sample.meta["actions"])
        assert states[-1].arrived
        assert draw_tiles(states[-1], 64).shape == (64, 64, 3)


def test_pieces_are_parts_of_whole_conversations(begun):
    """A piece from the first picture on with room for all is the processor's encoding of the sample."""
    _, processor = begun
    sample = TASK.sample(4)
    one = traces.told("fill", TASK, 4)
    whole = traces.piece(processor.stream, "fill", one, 0, len(one))
    messages = traces.question("fill", images_of(sample.messages[0]["content"])[0])
    content = traces.FORMS["fill"](sample, np.random.default_rng(0))
    assert whole.ids == processor.encode([*messages, {"role": "assistant", "content": content}])
    assert whole.stop == len(whole.ids)
    part = traces.piece(processor.stream, "fill", one, 1, 2)
    assert part.stop == len(part.ids) - 1
    words = processor.vocabulary
    labels = Layout.of([part.ids], words).labels(torch.tensor([part.ids]))
    asked = training.targets(labels, [part], words.write)[0]
    following = traces.piece(processor.stream, "fill", one, 1, 3).ids
    assert asked[part.stop] == following[part.stop] == words.write  # the next sketch is begun
    shown = images_of(processor.decode(part.ids)[1]["content"])
    assert len(shown) == 2
    np.testing.assert_array_equal(codes_of(shown[0]), one.pictures[2])


def test_words_without_pictures_are_kept_whole(begun):
    _, processor = begun
    for form in ("words", "chart"):
        one = traces.told(form, TASK, 1)
        found = traces.piece(processor.stream, form, one, 0, 3)
        text = text_of(processor.decode(found.ids)[1]["content"])
        assert [a for part in read_segments(text) for a in part] == TASK.sample(1).meta["actions"]


def test_pairs_are_what_a_session_would_steer_by(begun):
    """The words between two pictures are those that the layout finds since the picture before."""
    _, processor = begun
    one = traces.told("fill", TASK, 2)
    ids = traces.piece(processor.stream, "fill", one, 0, len(one)).ids
    (group,) = Layout.of([ids], processor.vocabulary).writes
    said = [processor.stream.text.decode([ids[p] for p in row if p >= 0]) for row in group.words]
    assert said == [text for _, text, _ in traces.pairs([one])]


# Training -----------------------------------------------------------------------------------------


def test_the_transition_learns_pairs_and_the_decoder_leaves_it_alone(begun):
    model, processor = start(texts()[:40], TOY.size, 1)
    one = [traces.told("fill", TASK, number) for number in range(4)]
    budget = replace(TOY.budget, pairs=40, steps=4)
    first = training.train_transition(model, processor.stream, one, replace(budget, pairs=1), 0)[1]
    done, last = training.train_transition(model, processor.stream, one, budget, 0)
    assert done == 40
    assert last < 0.8 * first
    training.freeze(model)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    training.train_decoder(model, processor.stream, "fill", one, budget, 0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, kept[name])}
    assert any(".layers." in name for name in changed)
    assert not any(name.startswith(("extras.transition", "head.")) for name in changed)
    assert "backbone.embed_tokens.weight" not in changed


def test_what_ends_an_unfinished_piece_is_no_target(begun):
    model, processor = begun
    one = traces.told("fill", TASK, 0)
    part = traces.piece(processor.stream, "fill", one, 0, 1)
    counted = training.losses(model, [part])[0]
    whole = training.losses(model, [replace(part, stop=len(part.ids))])[0]
    assert torch.isfinite(counted)
    assert counted != whole


def test_time_ends_training():
    model, processor = start(texts()[:40], TOY.size, 0)
    budget = replace(TOY.budget, steps=10**6, pairs=10**6, seconds=1.0, traces=2)
    spent = training.train(model, processor.stream, "fill", TASK, budget, 0)
    assert 1 <= spent.pairs < 10**6
    assert spent.steps < 10**6
    assert spent.seconds < 30


# Other sketches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", solving.SHOWN)
def test_a_model_is_given_the_sketches_that_are_named(begun, shown, monkeypatch):
    model, processor = begun
    model.eval()
    words = model.vocabulary
    plain, kinds = type(model).text_logits, []

    def logits(hidden):
        found = plain(model, hidden)
        found[..., words.write] = found.amax(dim=-1) + 1  # it draws wherever it may
        return found

    monkeypatch.setattr(model, "text_logits", logits)
    seen = []

    def ask(form, picture):
        seen.append(picture)
        return traces.question(form, picture)

    monkeypatch.setattr(solving, "question", ask)
    few = replace(TOY.mazes, count=2, sketches=4, words=4)
    found = solving.solved(model, processor, "fill", shown, 4, few, page=2)
    assert found["mazes"] == 2
    assert found["images"] == (0 if shown == "none" else 8)
    assert found["cut"] == 2
    _, samples = solving.samples_of(4, few)
    if shown in ("true", "another's"):
        source = samples if shown == "true" else samples[::-1]
        for number, sample in enumerate(source):
            wanted = traces.sketches("fill", sample)[1]  # the picture that the second page begins with
            np.testing.assert_array_equal(codes_of(seen[2 + number]), wanted)
    if shown == "blank":
        assert (seen[2] == 255).all()
    assert not kinds


def test_unknown_sketches_are_refused():
    with pytest.raises(ValueError, match="unknown sketches 'black'"):
        solving.substitutes("fill", "black", [], 4, 0)


# The command --------------------------------------------------------------------------------------


def run(folder, *words):
    return main([*words, "--out", str(folder / "out"), "--work", str(folder / "work")])


def test_an_arm_is_run_and_goes_on_where_it_was(tmp_path, capsys):
    assert run(tmp_path, "fill", "--toy", "--seeds", "0") == 0
    printed = capsys.readouterr().out
    assert "| fill | own |" in printed
    path = tmp_path / "out" / "fill-0.json"
    result = json.loads(path.read_text())
    assert set(result["solved"]) == set(ARMS["fill"].shown)
    assert set(result["solved"]["own"]) == {"3", "6"}
    assert (tmp_path / "out" / "table.md").read_text().startswith("| arm | sketches | 3x3 | 6x6 | seeds |")

    del result["solved"]["true"]
    result["solved"]["own"]["3"]["success"] = 2  # what is there is not measured again
    path.write_text(json.dumps(result))
    weights = (tmp_path / "work" / "fill-0" / "model.safetensors").stat().st_mtime_ns
    assert run(tmp_path, "fill", "--toy", "--seeds", "0") == 0
    again = json.loads(path.read_text())
    assert set(again["solved"]) == set(ARMS["fill"].shown)
    assert again["solved"]["own"]["3"]["success"] == 2
    assert (tmp_path / "work" / "fill-0" / "model.safetensors").stat().st_mtime_ns == weights

    shutil.rmtree(tmp_path / "work" / "fill-0")  # nothing is trained where all is measured
    assert run(tmp_path, "fill", "--toy", "--seeds", "0") == 0
    assert not (tmp_path / "work" / "fill-0").exists()

    assert run(tmp_path, "words", "words_time", "--toy", "--seeds", "0") == 0
    timed = json.loads((tmp_path / "out" / "words_time-0.json").read_text())
    assert timed["spent"]["seconds"] >= 0.5 * result["spent"]["seconds"]
    assert timed["parameters"] == result["parameters"]


def test_what_is_asked_wrongly_is_one_line(tmp_path, capsys):
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(ARMS)
    for words, message in (
        (("best",), "unknown arm 'best'"),
        (("words_time", "--toy", "--seeds", "0"), "run that first"),
        (("--table",), "no results of arms"),
    ):
        assert run(tmp_path, *words) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.json").write_text("[]")
    assert run(tmp_path, "--table") == 2
    assert "x.json is no result" in capsys.readouterr().err


def test_a_table_adds_seeds_up():
    numbers = {"success": 3, "mazes": 10, "progress": 5, "visual_success": 2, "images": 20}
    numbers |= {"consistent_images": 10, "seconds": 5.0, "goal_reached": 3, "cut": 0}
    one = {
        "arm": "fill",
        "seed": 0,
        "parameters": 2e6,
        "spent": {"seconds": 60},
        "solved": {"own": {"3": numbers}},
    }
    other = {**one, "seed": 1, "solved": {"own": {"3": {**numbers, "success": 9}}}}
    lines = results.table([one, other]).splitlines()
    assert lines[2] == "| fill | own | 60 (39-78) | 2 |"
    assert lines[-1] == "| fill | 2.0M | 50 | 20 (8-42) | 50 (35-65) | 60 | 0.50 |"
    assert results.rate(0, 0) == "-"
