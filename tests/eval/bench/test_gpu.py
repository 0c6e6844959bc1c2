"""The GPU's bench at toy size: every measurement runs, and no figure is printed."""

import math
import re

import pytest
import torch
from unified.eval.bench import gpu, gpu_cases

from unified.config import UnifiedConfig, text_decoder
from unified.model import UnifiedModel

CPU = torch.device("cpu")


@pytest.mark.parametrize("group", gpu_cases.GROUPS)
def test_every_group_measures_something(group):
    rows = dict(gpu_cases.GROUPS[group](gpu_cases.TOY, CPU))
    assert rows
    for rates in rows.values():
        assert set(rates) <= set(gpu.UNITS)
        assert all(0 < rate < 1e9 for rate in rates.values())


def test_a_dry_run_prints_names_and_no_figure(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--dry-run", "--only", "passes"]) == 0
    out = capsys.readouterr().out
    assert out == "Dry run at toy size on cpu: nothing is measured.\npass, sdpa: ran\npass, by_sample: ran\n"
    assert not re.search(r"\d+ ?(tokens|images|frames)/s", out)


def test_without_a_gpu_nothing_is_measured(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "no CUDA GPU here: --dry-run" in capsys.readouterr().err
    assert gpu.main(["--dry-run", "--out", str(tmp_path / "a.json")]) == 2
    assert not list(tmp_path.iterdir())


def test_the_full_size_is_a_model_of_300m_parameters():
    size = gpu_cases.Size()
    with torch.device("meta"):
        words = {"visual": size.codes, "max_side": size.sides[-1]}
        model = UnifiedModel(UnifiedConfig(vocabulary=words, backbone=text_decoder(**size.decoder)))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 2.5e8 < count < 3.5e8


def test_utilisation_is_arithmetic_over_time_and_peak(monkeypatch):
    monkeypatch.setattr(gpu_cases, "peak_flops", lambda device, bf16: 1e12)
    (_, rates), *_ = gpu_cases.training(gpu_cases.TOY, CPU)
    size = gpu_cases.TOY
    seconds = math.prod(size.packed) / rates["tokens_per_second"]
    model, batch = gpu_cases._model(size, CPU), gpu_cases._batch(size, CPU)
    flops = gpu_cases.ModelFlops(model)(batch["work"])
    assert rates["utilisation"] == pytest.approx(flops / seconds / 1e12)


def test_a_row_as_it_is_printed():
    assert gpu.line("pass, sdpa", {"tokens_per_second": 123456.0}) == "pass, sdpa: 123,456 tokens/s"


def test_a_small_gpu_ends_a_group_not_the_run(monkeypatch, capsys):
    def full(size, device):
        yield "first", {"tokens_per_second": 1.0}
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setitem(gpu_cases.GROUPS, "passes", full)
    found = gpu.measure(["passes", "sessions"], gpu_cases.TOY, CPU, show=False)
    assert "first" in found
    assert any(name.startswith("text") for name in found)
    assert "passes: the memory of this GPU is too small" in capsys.readouterr().err
