"""Mutual-information decoding against the public re-implementation."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unified.checkpoints.__main__ import main

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import compared, needs, refused


@needs("m3id")
def test_every_tensor_agrees_and_changed_ones_do_not(tmp_path, capsys):
    def finite(stored):
        for name in ("beta.mixed", "repetition.scores"):  # where it is not
            value = stored[name].view(-1)
            value[value.isinf().nonzero()[0]] = -1e4

    changed = {"weight": 1e-6, "warped.tokens": 1, "vcd.tokens": 1, "eos.tokens": 1}
    skipped = compared("m3id", tmp_path, capsys, changed, finite)
    assert all(line.endswith("an input") for line in skipped)


def written(folder, *, steps=3, rows=2, size=7, seed=5, **case):
    """A folder whose mixtures are computed in plain arithmetic."""
    rng = torch.Generator().manual_seed(seed)
    seen, blind = torch.randn(2, steps, rows, size, generator=rng)
    mixed = torch.empty(steps, rows, size, dtype=torch.float64)
    for t in range(steps):
        weight = 2.718281828459045 ** (0.02 * (t + 1)) - 1
        likely, other = seen[t].double().log_softmax(-1), blind[t].double().log_softmax(-1)
        mixed[t] = likely + weight * (likely - other)
        floor = seen[t].double().amax(-1, keepdim=True) + torch.tensor(0.1, dtype=torch.float64).log()
        mixed[t][seen[t] < floor] = float("-inf")
    tensors = {"one.with_image": seen, "one.without_image": blind, "one.mixed": mixed.float()}
    save_file({**tensors, "one.prompt": torch.zeros(rows, 2, dtype=torch.long)}, folder / "io.safetensors")
    told = {"rule": "m3id", "steps": steps, "torch_manual_seed": 1, **case}
    told = {name: value for name, value in told.items() if value is not None}
    (folder / "config.json").write_text(json.dumps({"case": "m3id", "cases": {"one": told}}))
    return folder


@pytest.mark.parametrize("sizes", [{}, {"steps": 9, "rows": 1, "size": 3}])
def test_folders_of_other_sizes_are_verified(sizes, tmp_path, capsys):
    assert main(["verify", str(written(tmp_path, **sizes))]) == 0
    assert "ok   one.mixed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("case", "words"),
    [({"rule": "avisc"}, "unknown rule 'avisc'"), ({"torch_manual_seed": None}, "lacks torch")],
)
def test_bad_options_are_one_line(case, words, tmp_path, capsys):
    assert words in refused(written(tmp_path, **case), capsys)
