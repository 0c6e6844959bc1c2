"""VARGPT-v1.1 in a session: drawings against both transformers run over everything at once, rows, pictures,
what a drawing leaves behind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unified.cache.policy import Full, Held
from unified.cache.scalekv import Budget, ScaleKV, Selector
from unified.checkpoints import vargpt_verify
from unified.checkpoints.generation import GREEDY
from unified.checkpoints.infinity_generation import Habits
from unified.checkpoints.vargpt import VARGPT, Sketch
from unified.checkpoints.vargpt_generation import generate
from unified.checkpoints.vargpt_published import save_folder
from unified.checkpoints.vargpt_session import DrawingReader
from unified.decoding.guidance import Constant, Guidance, PerStep
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.layout.layout import Cursor
from unified.orders.shapes import Shapes, area

sys.path.insert(0, str(Path(__file__).parents[2]))
import tiny_vargpt as tiny

SHAPES: Shapes = ((1, 1), (2, 2), (3, 2), (4, 4))
PROMPTS = [[45, 46, 47, 48, 49], [70, 71, 72], [51, 52, 53, 54, 55, 56, 57, 58]]
OPTIONS = {"order": "residual", "sampler": GREEDY}


@pytest.fixture(scope="module")
def reader() -> DrawingReader:
    made = tiny.model()
    return DrawingReader(made, [made.sizes.language["eos_token_id"]])


def grid(height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    """A picture of height x width patches, as the image processor returns it."""
    rng = torch.Generator().manual_seed(seed)
    values = torch.randn(height * width, 3 * 2 * 4 * 4, generator=rng)
    return {"pixel_values": values, "image_grid_thw": torch.tensor([[1, height, width]])}


def sketch_of(model: VARGPT, codes: list[Tensor], shapes: Shapes) -> Sketch:
    symbols = model.decoder.head.to_symbols(torch.cat(codes, dim=1))
    return Sketch(vectors=model.decoder.grid.transformer_inputs(symbols, shapes), shapes=shapes)


@torch.no_grad()
def conditional(
    model: VARGPT, prompt: list[int], codes: list[Tensor], shapes: Shapes, **more: Tensor
) -> Tensor:
    """Logits [1, L, 2 S] of one pass over everything."""
    ids = model.sizes.ids
    row = [*prompt, ids.start, *[ids.pad] * model.sizes.padded(area(shapes)), ids.end]
    forced = model(torch.tensor([row]), sketch_of(model, codes, shapes), **more)
    return forced.drawn.bits.flatten(-2)


@torch.no_grad()
def unconditional(model: VARGPT, length: int, codes: list[Tensor], shapes: Shapes) -> Tensor:
    """The same of the null branch: the language model sees each map by itself, at positions from 0."""
    null = torch.ones(1, dtype=torch.bool)
    vectors = sketch_of(model, codes, shapes).vectors
    fed = [model.first_inputs(model.pooled(null))]
    fed += model.decoder.later_inputs(vectors).split([area((shape,)) for shape in shapes[1:]], dim=1)
    behind = [
        model.image_gen_projector_out(model.run_language(model.image_gen_projector(part))) for part in fed
    ]
    memory = [model.decoder.text.cfg_uncond[:length]]
    condition = model.steered(model.pooled(null), memory)
    return model.decoder.logits(torch.cat(behind, dim=1), condition, shapes).flatten(-2)


@pytest.mark.parametrize("shapes", [SHAPES, ((1, 1), (2, 1), (4, 3))])
def test_a_drawing_is_that_of_one_pass(reader: DrawingReader, shapes: Shapes) -> None:
    made = generate(reader, PROMPTS[:1], shapes, None, habits=Habits(sampler=GREEDY))
    want = conditional(reader.vargpt, PROMPTS[0], made.codes, shapes)
    torch.testing.assert_close(torch.cat(made.logits, dim=1), want, atol=1e-4, rtol=1e-4)


def test_rows_of_several_lengths_are_guided_by_null_rows(reader: DrawingReader) -> None:
    scales = (1.5, 1.0, 3.0, 2.0)
    habits = Habits(sampler=Sampler(temperature=0.7), noise=PositionNoise([1, 2, 3]))
    made = generate(reader, PROMPTS, SHAPES, PerStep(scales), habits=habits)
    areas = [area((shape,)) for shape in SHAPES]
    by_slot = torch.tensor(scales).repeat_interleave(torch.tensor(areas))[None, :, None]
    for row, prompt in enumerate(PROMPTS):
        codes = [ids[row : row + 1] for ids in made.codes]
        told = conditional(reader.vargpt, prompt, codes, SHAPES)
        untold = unconditional(reader.vargpt, len(prompt), codes, SHAPES)
        got = torch.cat(made.logits, dim=1)[row : row + 1]
        torch.testing.assert_close(got, by_slot * told + (1 - by_slot) * untold, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [None, Constant(3.0)])
def test_a_row_does_not_depend_on_its_batch(reader: DrawingReader, guidance: Guidance | None) -> None:
    sampler = Sampler(temperature=0.5, top_p=0.97)
    every = Habits(sampler=sampler, noise=PositionNoise([4, 5, 6]))
    both = generate(reader, PROMPTS, SHAPES, guidance, habits=every)
    alone = Habits(sampler=sampler, noise=PositionNoise([5]))
    own = generate(reader, PROMPTS[1:2], SHAPES, guidance, habits=alone)
    assert all(torch.equal(b[1:2], a) for b, a in zip(both.codes, own.codes, strict=True))


def test_a_long_prompt_takes_all_of_the_memory_learnt_for_none(reader: DrawingReader) -> None:
    prompt = list(range(50, 100))  # 50 ids, 30 learnt vectors
    made = generate(reader, [prompt], SHAPES, Constant(2.0), habits=Habits(sampler=GREEDY))
    told = conditional(reader.vargpt, prompt, made.codes, SHAPES)
    untold = unconditional(reader.vargpt, 30, made.codes, SHAPES)
    torch.testing.assert_close(torch.cat(made.logits, dim=1), 2 * told - untold, atol=2e-4, rtol=1e-4)


def test_a_picture_in_the_prompt_is_read_by_the_tower(reader: DrawingReader) -> None:
    """As the source of an edit: rotary positions are those of the model, and all its features are memory."""
    image, inputs = reader.image, grid(4, 6)
    prompt = [45, 46, *[image] * 6, 47, 48]
    values = reader.values(inputs)
    habits = Habits(sampler=GREEDY)
    made = generate(reader, [prompt], SHAPES, None, values=values, habits=habits)
    ids = torch.tensor([prompt])
    layout = reader.lay_out(ids, [Cursor()], values)
    after = layout.cursors[0].position + torch.arange(1 + reader.vargpt.sizes.padded(area(SHAPES)) + 1)
    positions = torch.cat([layout.positions.long(), after.long().expand(3, 1, -1)], dim=2)
    want = conditional(reader.vargpt, prompt, made.codes, SHAPES, pictures=inputs, positions=positions)
    torch.testing.assert_close(torch.cat(made.logits, dim=1), want, atol=1e-4, rtol=1e-4)
    other = reader.values(grid(4, 6, seed=1))
    changed = generate(reader, [prompt], SHAPES, None, values=other, habits=habits)
    assert not torch.allclose(changed.logits[0], made.logits[0], atol=1e-3)


@pytest.mark.parametrize("guidance", [None, Constant(2.0)])
def test_a_drawing_leaves_nothing_behind(reader: DrawingReader, guidance: Guidance | None) -> None:
    """What is drawn and said next is what it would have been; the cache is as long as before."""
    drew, silent = Session(reader, seed=0), Session(reader, seed=0)
    for session in (drew, silent):
        session.feed([45, 46, 47])
    first = drew.draw(SHAPES, guidance=guidance, **OPTIONS).codes
    assert drew.context.cache.lengths_by_layer[:, 0].tolist() == [3, 3, 3, 0, 0]
    again = drew.draw(SHAPES, guidance=guidance, **OPTIONS).codes
    assert torch.equal(first, again)
    for session in (drew, silent):
        session.feed([48, 49])
    torch.testing.assert_close(drew.last, silent.last)
    said = [list(session.text(sampler=GREEDY, max_tokens=4, draw=False)) for session in (drew, silent)]
    assert said[0] == said[1]
    later = drew.draw(SHAPES, guidance=guidance, **OPTIONS).codes
    prompt = [45, 46, 47, 48, 49, *(ids[0] for ids in said[0])]
    whole = generate(reader, [prompt], SHAPES, guidance, habits=Habits(sampler=GREEDY))
    assert torch.equal(later, torch.cat(whole.codes, dim=1))


def test_all_may_stay_in_the_cache(reader: DrawingReader) -> None:
    session = Session(reader, policy=Full())
    session.feed([45, 46, 47])
    first = session.draw(SHAPES, guidance=Constant(2.0), **OPTIONS).codes
    again = session.draw(SHAPES, guidance=Constant(2.0), **OPTIONS).codes
    assert torch.equal(first, again)


def test_rows_that_do_not_draw_are_left_alone(reader: DrawingReader) -> None:
    session, alone = Session(reader, rows=2), Session(reader)
    session.feed([[45, 46, 47], [70, 71]])
    alone.feed([70, 71])
    drawing = session.draw(SHAPES, rows=[False, True], guidance=Constant(2.0), **OPTIONS)
    want = alone.draw(SHAPES, guidance=Constant(2.0), **OPTIONS)
    assert torch.equal(drawing.codes[1:], want.codes)
    session.feed([[48], [48]])
    whole = Session(reader, rows=2)
    whole.feed([[45, 46, 47, 48], [70, 71, 48]])
    torch.testing.assert_close(session.last, whole.last)


def test_a_row_is_forgotten(reader: DrawingReader) -> None:
    session = Session(reader, rows=2)
    session.feed([[45, 46, 47, 48], [70, 71]])
    session.draw(SHAPES, guidance=Constant(2.0), **OPTIONS)
    session.restart(0)
    session.feed([[51, 52], []])
    drawing = session.draw(SHAPES, guidance=Constant(2.0), **OPTIONS)
    want = generate(reader, [[51, 52]], SHAPES, Constant(2.0), habits=Habits(sampler=GREEDY))
    assert torch.equal(drawing.codes[:1], torch.cat(want.codes, dim=1))


def test_the_start_token_begins_a_drawing(reader: DrawingReader) -> None:
    """The model's own token is what `Session.text` stops at, and only where drawing is allowed."""
    start = reader.vargpt.sizes.ids.start
    session = Session(reader)
    session.feed([45, 46])
    logits = reader.text_logits(session.last)
    bias = torch.zeros_like(logits)
    bias[:, start] = 1e6

    class Insisting(Sampler):
        def filter(self, logits: Tensor) -> Tensor:
            return logits

        def draw(self, logits: Tensor, noise: object, places: Tensor):  # type: ignore[no-untyped-def,override]
            wanted = torch.where(logits.isneginf(), logits, logits + bias[0, : logits.shape[-1]])
            return super().draw(wanted, noise, places)  # type: ignore[arg-type]

    assert list(session.text(sampler=Insisting(temperature=0), max_tokens=3)) == []
    assert session.stopped() == ["write"]
    assert len(list(session.text(sampler=Insisting(temperature=0), max_tokens=3, draw=False))) == 3


def test_drawing_before_a_prompt_is_refused(reader: DrawingReader) -> None:
    for guidance in (None, Constant(2.0)):
        with pytest.raises(ValueError, match="feed a prompt first"):
            Session(reader).draw(SHAPES, guidance=guidance, **OPTIONS)


@torch.no_grad()
def test_bfloat16_draws() -> None:
    made = tiny.model().bfloat16()
    reader = DrawingReader(made, [1])
    found = generate(reader, PROMPTS[:2], SHAPES, Constant(2.0), habits=Habits(sampler=GREEDY))
    assert torch.cat(found.logits, dim=1).isfinite().all()
    image = reader.visual.image(found.codes, SHAPES)
    assert image.shape == (2, 3, 8, 8)


class Spy:
    """A policy that hands on what another one says, and notes the entries that each layer held."""

    keeps_writes, by_step = False, True

    def __init__(self, inner: ScaleKV) -> None:
        self.inner, self.held = inner, {}  # type: ScaleKV, dict[int, list[int]]

    def stays(self, held: Held) -> np.ndarray | None:
        if held.queries is not None:
            assert held.queries.shape[2] == len(held.plan.steps[held.step].run)
            self.held.setdefault(held.layer, []).append(int(held.lengths.max()))
        return self.inner.stays(held)


@pytest.mark.parametrize("guidance", [None, Constant(2.0)])
def test_a_policy_by_step_is_asked_for_both_transformers(
    reader: DrawingReader, guidance: Guidance | None
) -> None:
    budgets = {step: Budget(drafter=6, refiner=6) for step in (2, 3)}
    small = Spy(ScaleKV(budgets=budgets, capacity=0, selector=Selector(window=4, kernel=3)))
    large = Spy(ScaleKV(budgets={}, capacity=1000))
    found = {}
    for name, policy in (("small", small), ("large", large), ("none", None)):
        habits = Habits(sampler=GREEDY, policy=policy)
        found[name] = generate(reader, PROMPTS[:2], SHAPES, guidance, habits=habits)
    assert set(large.held) == {0, 1, 3, 4}  # layer 2 holds the states of what was said
    assert large.held[3] == [1, 5, 11, 27]
    assert small.held[3][-1] < 27
    for ours, theirs in zip(found["large"].logits, found["none"].logits, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.equal(found["small"].logits[-1], found["none"].logits[-1])


# A folder of other sizes ------------------------------------------------------------------------------------


@torch.no_grad()
def stored(model: VARGPT, shapes: Shapes) -> dict[str, Tensor]:
    """What such a folder holds, by `transformers` alone and by whole passes: no session, no cache."""
    ids, inputs = model.sizes.language, grid(4, 6)
    image = ids["image_token_id"]
    row = torch.tensor([[45, ids["vision_start_token_id"], *[image] * 6, ids["vision_end_token_id"], 46, 47]])
    kinds = (row == image).int()
    places, deltas = model.language.model.get_rope_index(row, kinds, inputs["image_grid_thw"])
    labels = row.masked_fill(row < 46, -100)
    found = model.language(row, position_ids=places, labels=labels, **inputs)
    known = {
        "und.input_ids": row,
        "und.labels": labels,
        "und.pixel_values": inputs["pixel_values"],
        "und.image_grid_thw": inputs["image_grid_thw"],
        "und.position_ids": places,
        "und.rope_deltas": deltas,
        "und.logits": found.logits,
        "und.loss": found.loss,
    }
    codes = [torch.zeros(1, area((shape,)), dtype=torch.long) for shape in shapes]
    logits = []
    for step, slots in enumerate(torch.arange(area(shapes)).split([part.shape[1] for part in codes])):
        told = conditional(model, PROMPTS[0], codes, shapes)[:, slots]
        untold = unconditional(model, len(PROMPTS[0]), codes, shapes)[:, slots]
        logits.append(3 * told - 2 * untold)
        codes[step] = model.decoder.head.to_codes(logits[-1].unflatten(-1, (-1, 2)).argmax(dim=-1))
    bits = model.decoder.head.to_symbols(torch.cat(codes, dim=1))
    return {
        **known,
        "inf.prompt_ids": torch.tensor([[*PROMPTS[0], model.sizes.ids.start]]),
        "inf.greedy_cfg.bits": bits.to(torch.uint8),
        "inf.greedy_cfg.logits_after_cfg_tau": torch.cat(logits, dim=1) / 0.5,
    }


def test_a_folder_of_other_sizes_verifies(tmp_path: Path) -> None:
    model = tiny.model(**tiny.wider(tiny.config()))
    save_folder(tmp_path, model)
    tensors = {name: value.contiguous() for name, value in stored(model, model.sizes.shapes()).items()}
    save_file(tensors, tmp_path / "io.safetensors")
    checks = list(vargpt_verify.verify(tmp_path))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sum(check.ok is True for check in checks) == 6
    with torch.no_grad():
        model.decoder.blocks[2].ca.mat_q.weight.mul_(1.5)
    save_folder(tmp_path, model)
    failed = {check.name for check in vargpt_verify.verify(tmp_path) if check.ok is False}
    assert "inf.greedy_cfg.logits_after_cfg_tau" in failed
    assert not any(name.startswith("und.") for name in failed)
