"""A memory of some steps: seen by their slots alone, two of them beside each other."""

import pytest
import torch

from unified.backbone.layer_pass import Pass
from unified.backbone.parts import PARTS, ScaleMemoryConfig
from unified.backbone.parts.steps import steps_of
from unified.checkpoints.next_scale import block_causal
from unified.orders import plan_for

SHAPES = ((1, 1), (2, 2), (3, 3))
SIZES = {"length": 3, "heads": 2, "kv_heads": 1, "head_width": 8}


def memory(seed, **steps):
    torch.manual_seed(seed)
    made = PARTS["scale_memory"](**SIZES, **steps)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def run(parts, step=-1):
    index = block_causal(SHAPES if step < 0 else SHAPES[step : step + 1])
    return Pass(index, torch.zeros(3, 1, 1), plan=plan_for("residual", SHAPES), step=step, parts=parts)


@torch.no_grad()
def changed(parts):
    """Whether the outputs of each map's slots are changed."""
    rng = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, heads, 14, 8, generator=rng) for heads in (2, 1, 1))
    found, plain = (run(given).attention(0, q, k, v, 1.0) for given in (parts, []))
    return [
        not torch.equal(*pair)
        for pair in zip(found.split([1, 4, 9], 1), plain.split([1, 4, 9], 1), strict=True)
    ]


def test_slots_of_its_steps_see_it():
    assert changed([memory(0, last=1)]) == [True, False, False]
    assert changed([memory(0, first=1, last=2)]) == [False, True, False]
    assert changed([memory(0, first=2)]) == [False, False, True]
    assert changed([memory(0, first=3)]) == [False] * 3
    assert changed([memory(0, layers=(1,))]) == [False] * 3


@torch.no_grad()
def test_content_and_style_stand_beside_each_other():
    """Each map's outputs with both are those with the one that it sees alone."""
    style, content = memory(0, last=2), memory(1, first=2)
    rng = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, heads, 14, 8, generator=rng) for heads in (2, 1, 1))
    both, one, other = (run(p).attention(0, q, k, v, 1.0) for p in ([style, content], [style], [content]))
    assert torch.equal(both[:, :5], one[:, :5])
    assert torch.equal(both[:, 5:], other[:, 5:])


def test_steps_of_a_pass():
    assert steps_of(run([])).tolist() == [[0] + [1] * 4 + [2] * 9]
    assert steps_of(run([], step=1)).tolist() == [[1] * 4]


@pytest.mark.parametrize(("first", "last"), [(-1, None), (2, 2)])
def test_a_memory_of_no_step_is_refused(first, last):
    with pytest.raises(ValueError, match="a memory needs steps from 0 on"):
        ScaleMemoryConfig(first=first, last=last)
