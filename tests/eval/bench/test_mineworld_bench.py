"""The bench of worlds on a tiny model: every case runs, and what it counts is a whole frame."""

import torch
from unified.eval.bench import mineworld
from unified.eval.bench.mineworld import CASES, MODELS, RATIOS, Size, copies, frame, lines, measure, prepared

TINY = Size(layers=2, width=32, heads=2, kv_heads=1, inner=32, grid=(2, 4), codes=16)


def test_every_case_is_measured():
    clock, busy = measure(CASES, 1, TINY)
    assert set(clock) == set(busy) == {str(case) for case in CASES}
    assert min(*clock.values(), *busy.values()) > 0
    assert len(lines(clock, busy)) == len(CASES) + len(RATIOS)
    equal = {name: 1.0 for name in clock}
    assert lines(equal, equal)[-1].endswith("1.00 times (goal 2.5: MISSED; 1.00 in processor time)")


def test_a_copy_goes_on_as_the_original_does():
    for name in MODELS:
        torch.manual_seed(0)
        session = prepared(MODELS[name](TINY), TINY)
        many = copies(session, 2)
        order = mineworld.DIAGONAL
        for one in (session, many):
            frame(one, order, TINY.grid)
        assert torch.equal(many.drawing.codes, session.drawing.codes.expand(2, -1))
        assert session.stats.passes == 6
        assert many.streams[0] == session.streams[0]
        assert many.context.cache.length == session.context.cache.length
