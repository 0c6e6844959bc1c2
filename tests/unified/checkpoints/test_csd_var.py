"""CSD-VAR's functions against what was computed from the published ones."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import copied, differing, left_out, needs, refused, spoilt, without

INPUTS = ("svd.embeddings", "apply.hidden", "apply.ids", "orth.style", "orth.content")


@needs("csd_var")
def test_every_published_output_is_recomputed():
    assert left_out("csd_var") == dict.fromkeys(INPUTS, "not compared: an input")


@needs("csd_var")
@pytest.mark.parametrize(
    "name",
    ["svd.projection_top", "svd.singular_values", "apply.output", "weights.c.style", "orth.grad_style"],
)
def test_a_changed_output_is_noticed(name, tmp_path):
    folder = copied("csd_var", tmp_path, io=lambda stored: spoilt(stored, name, by=1e-3))
    assert differing(folder) == {name}


@needs("csd_var")
def test_changed_options_are_noticed(tmp_path):
    def change(options):
        options["r"] += 1
        options["weight_cases"]["b"]["minor"] *= 2

    found = differing(copied("csd_var", tmp_path, config=change))
    assert found == {
        "svd.projection_top",
        "svd.projection_least",
        "apply.output",
        "weights.b.style",
        "weights.b.style_total",
    }


@needs("csd_var")
@pytest.mark.parametrize("name", INPUTS)
def test_a_missing_input_is_named(name, tmp_path, capsys):
    assert name in refused(copied("csd_var", tmp_path, io=lambda stored: stored.pop(name)), capsys)


@needs("csd_var")
@pytest.mark.parametrize("path", [("r",), ("patch_nums",), ("weight_cases", "a", "minor")])
def test_a_missing_option_is_named(path, tmp_path, capsys):
    folder = copied("csd_var", tmp_path, config=lambda options: without(options, *path))
    assert path[-1] in refused(folder, capsys)
