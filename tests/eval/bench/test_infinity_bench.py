"""Infinity's schedules: no tensor grows faster than the slots."""

import json

import pytest
import torch
from unified.eval.bench import infinity

from unified.backbone import attention
from unified.checkpoints.infinity_schedules import schedule
from unified.orders.shapes import area


def numbers(name, dtype=torch.float32):
    model = infinity.small_model().to(dtype)
    return infinity.largest_tensor(lambda: infinity.write(model, schedule(1.0, name)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_tensor_grows_with_the_slots(dtype, monkeypatch):
    """2,521 slots beside 521; tables of pairs would grow by 23. On processors scores in bfloat16 are plain
    products, in pieces."""
    monkeypatch.setattr(attention, "SCORES", 2**16)
    slots = area(schedule(1.0, "0.25M")) / area(schedule(1.0, "0.06M"))
    assert numbers("0.25M", dtype) / numbers("0.06M", dtype) < 1.25 * slots


def test_a_table_of_pairs_would_be_noticed():
    few, many = (infinity.largest_tensor(lambda n=n: torch.ones(n, 1) @ torch.ones(1, n)) for n in (20, 100))
    assert (few, many) == (400, 10_000)


@pytest.mark.slow
def test_the_published_1024_pixel_schedule():
    assert area(schedule(1.0, "1M")) == 10_521
    slots = area(schedule(1.0, "1M")) / area(schedule(1.0, "0.25M"))
    assert numbers("1M") / numbers("0.25M") < 1.25 * slots


def test_every_code_of_a_schedule_is_written():
    codes = infinity.write(infinity.small_model(), schedule(1.0, "0.06M"))
    assert codes.shape == (1, 521)
    assert len(set(codes[0].tolist())) > 500


def test_lines_say_what_a_slot_takes():
    rows = {
        "0.06M": {"slots": 500.0, "seconds": 0.1, "peak_mb": 100.0},
        "0.25M": {"slots": 1500.0, "seconds": 0.5, "peak_mb": 110.0},
        "1M": {"slots": 10500.0, "seconds": 3.0, "peak_mb": 200.0},
    }
    assert infinity.bytes_per_slot(rows)["0.25M"] == pytest.approx(10 * 2**20 / 1000)
    assert "reached" in infinity.lines(rows)[-1]
    rows["1M"]["peak_mb"] = 1000.0
    assert "9.00 times the memory a slot (goal at most 1.5: MISSED)" in infinity.lines(rows)[-1]


def test_it_prints_json(capsys):
    assert infinity.main(["--resolutions", "0.06M", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["0.06M"]["slots"] == 521
    with pytest.raises(SystemExit):
        infinity.main(["--threads", "0"])
