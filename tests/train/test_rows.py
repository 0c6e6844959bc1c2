"""Packed rows: reproducible, complete, with factors that make any split of a step the same mean."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from unified.tasks.registry import make
from unified.train.override import override
from unified.train.prepared import Tokenizers, encode, prepare, whole_shards
from unified.train.recipes import RECIPES
from unified.train.rows import Collator, Rows

from unified.layout.layout import IGNORED
from unified.model import UnifiedModel

RECIPE = RECIPES["nano_smoke"]()


def changed(**changes):
    """The recipe's stage with other fields, of any of its groups."""
    return override(RECIPE.stages[0], [f"{name}={json.dumps(value)}" for name, value in changes.items()])


@pytest.fixture(scope="module")
def tokenizers(smoke):
    return Tokenizers(str(smoke / "text_tokenizer"), str(smoke / "visual_tokenizer"), (1, 2), 8)


@pytest.fixture(scope="module")
def sources(smoke, tokenizers):
    return {s.task: prepare(s, 0, "train", tokenizers, smoke / "data") for s in RECIPE.data.sources}


@pytest.fixture(scope="module")
def make_rows(sources, tokenizers):
    words = tokenizers.processor().vocabulary

    def build(**changes):
        return Rows(changed(**changes), sources, words, seed=0)

    return build


def batch_of(rows, numbers):
    return Collator(rows.vocabulary)([rows[n] for n in numbers])


def test_prepared_ids_are_those_of_the_processor(sources, tokenizers):
    processor = tokenizers.processor()
    task = make("scene_draw", size=32, most=2, seed=0)
    samples = [task.sample(index) for index in range(5)]
    expected = [processor.encode(sample.messages) for sample in samples]
    assert encode(samples, processor) == expected
    assert [sources["scene_draw"].ids(n) for n in range(5)] == expected


def test_a_half_made_folder_is_completed_and_grows(tokenizers, tmp_path):
    source = replace(RECIPE.data.sources[2], samples=260)
    first = prepare(source, 0, "train", tokenizers, tmp_path)
    folder = next(tmp_path.iterdir())
    (folder / "00001.rows.npy").unlink()
    again = prepare(source, 0, "train", tokenizers, tmp_path)
    more = prepare(replace(source, samples=270), 0, "train", tokenizers, tmp_path)
    assert len(first) == len(again) == 260
    assert len(more) == 270
    assert [more.ids(n) for n in range(260)] == [first.ids(n) for n in range(260)]


def test_a_share_of_the_samples_is_whole_shards():
    assert [whole_shards(10000, share) for share in (1.0, 0.35, 0.01)] == [10000, 3500, 250]
    assert whole_shards(100, 0.5) == 100


def test_rows_are_the_same_in_any_order(make_rows):
    straight, other = make_rows(), make_rows()
    forwards = [straight[n]["ids"] for n in range(12)]
    for number in (11, 3, 7, 0):
        assert torch.equal(other[number]["ids"], forwards[number])
    assert not torch.equal(forwards[0], forwards[4])


def test_rows_are_well_filled_and_hold_whole_samples(make_rows, sources):
    rows = make_rows(condition_dropout=0.0)
    known = {tuple(source.ids(n)) for source in sources.values() for n in range(len(source))}
    words = rows.vocabulary
    ids = torch.stack([rows[n]["ids"] for n in range(40)])
    assert float((ids != words.pad).float().mean()) > 0.8
    for row in ids.tolist():
        starts = [n for n, token in enumerate(row) if token == words.begin] + [len(row)]
        for start, stop in itertools.pairwise(starts):
            assert tuple(t for t in row[start:stop] if t != words.pad) in known


def test_shares_are_of_ids(make_rows):
    rows = make_rows(steps=200, condition_dropout=0.0)
    tasks = torch.stack([rows[n]["tasks"] for n in range(600)])
    counts = np.array([int((tasks == number).sum()) for number in range(len(rows.names))])
    expected = [rows.stage.data.mixture[name] for name in rows.names]
    assert counts / counts.sum() == pytest.approx(np.array(expected), abs=0.04)


def test_the_user_is_silenced_as_in_guidance(make_rows):
    rows = make_rows(condition_dropout=1.0)
    sources, words = rows.sources, rows.vocabulary
    model = UnifiedModel.__new__(UnifiedModel)
    torch.nn.Module.__init__(model)
    model.vocabulary = words
    known = {tuple(model.null_stream(s.ids(n))) for s in sources for n in range(len(s))}
    batch = batch_of(rows, range(4))
    drawn = [row for row in range(4) if words.write in batch["input_ids"][row].tolist()]
    assert drawn
    for row in range(4):
        ids, null = rows[row]["ids"].tolist(), rows[row]["null"]
        starts = [n for n, token in enumerate(ids) if token == words.begin] + [len(ids)]
        for start, stop in itertools.pairwise(starts):
            sample = tuple(t for t in ids[start:stop] if t != words.pad)
            assert bool(null[start]) == (words.write in sample)
            assert not null[start] or sample in known
    silenced = torch.stack([rows[row]["null"] for row in range(4)])
    assert not ((batch["labels"] != IGNORED) & silenced & (batch["parts"] < 2)).any()


def test_weights_of_a_step_add_up_to_its_rows_however_it_is_split(make_rows):
    rows = make_rows(
        kind_weights={"text": 0.3}, task_weights={"scene_draw": 2.0}, condition_dropout=0.3, steps=3
    )
    for step in range(3):
        numbers = range(4 * step, 4 * step + 4)
        whole = batch_of(rows, numbers)["weights"].sum()
        parts = sum(batch_of(rows, [n])["weights"].sum() for n in numbers)
        assert float(whole) == pytest.approx(4, rel=1e-4)
        assert float(parts) == pytest.approx(4, rel=1e-4)


def test_a_batch_without_a_drawing_gets_one_of_no_weight(make_rows):
    rows = make_rows(mixture={"small_talk": 1.0})
    plain = Collator(rows.vocabulary)([rows[0]])
    batch = Collator(rows.vocabulary, everywhere=True)([rows[0]])
    assert len(batch["input_ids"]) == len(plain["input_ids"]) + 1
    assert batch["layout"].writes
    assert float(batch["weights"].sum()) == pytest.approx(float(plain["weights"].sum()))


def test_samples_that_fit_no_row_are_refused(make_rows):
    with pytest.raises(ValueError, match="raise length"):
        make_rows(length=8)


def test_cut_samples_end_where_their_image_is_written(make_rows, sources):
    whole, rows = make_rows(condition_dropout=0.0), make_rows(cut=1.0, condition_dropout=0.0)
    words = rows.vocabulary
    drawing = sources["scene_draw"].ids(0)
    cut = rows.cut(drawing)
    assert cut == drawing[: len(cut)]
    assert drawing[len(cut)] == words.read
    assert cut[-1] == words.close
    assert rows.cut(sources["small_talk"].ids(0)) == sources["small_talk"].ids(0)
    ids = torch.stack([rows[n]["ids"] for n in range(8)])
    assert not (ids == words.read).logical_and(ids.roll(1, 1) == words.close).any()
    assert float(batch_of(rows, range(4))["weights"].sum()) == pytest.approx(4, rel=1e-4)
    assert (torch.stack([whole[n]["ids"] for n in range(8)]) == words.read).any()


def test_coarse_images_are_learned_up_to_a_small_map(make_rows):
    mixture = {"scene_draw": 1.0}
    whole = make_rows(mixture=mixture, condition_dropout=0.0)
    rows = make_rows(mixture=mixture, condition_dropout=0.0, coarse=mixture)
    numbers = range(whole.stage.batch.rows)
    batch, full = batch_of(rows, numbers), batch_of(whole, numbers)
    learned = batch["parts"][batch["weights"] > 0]
    assert set(learned[learned >= 2].tolist()) == {2 + side for side in (1, 2, 4)} & set(
        full["parts"].unique().tolist()
    )
    assert bool((batch["labels"][batch["weights"] == 0] == IGNORED).all())
    torch.testing.assert_close(batch["weights"].sum(), full["weights"].sum())


def test_coarse_names_sources_of_the_mixture():
    with pytest.raises(ValueError, match="coarse gives sources of the mixture"):
        changed(coarse={"sonnets": 0.5})
