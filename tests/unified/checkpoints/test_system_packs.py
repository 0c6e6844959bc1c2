"""Three questions to folders of reference vectors: does everything agree, is every changed
result noticed, and is what is missing or broken said in one line?"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified.checkpoints.__main__ import main, verify

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
PACKS = ("geneval", "t2i_compbench", "vtbench", "rag_igbench", "fvq", "gigatok", "hita", "larp", "selftok")
CASES = {"geneval", "t2i_compbench", "vtbench", "rag_igbench"}  # results in cases.json too
UNDESCRIBED = (
    "skip init_std.bottleneck.regularizer.embedding.weight: not compared: a start that is not described"
)
pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)
each_pack = pytest.mark.parametrize("name", PACKS)


@pytest.fixture
def copied(name, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(GOLDEN / name, tmp_path / name, copy_function=shutil.copyfile)
    (tmp_path / name).chmod(0o755)
    return tmp_path / name


def changed(value):
    """The same but for its last element."""
    flat = value.flatten().clone()
    if value.dtype == torch.bool:
        flat[-1] = ~flat[-1]
    else:
        flat[-1] = 0 if flat[-1] == 1 else 1 if value.dtype == torch.uint8 else flat[-1] + 1
    return flat.view(value.shape)


def told(folder) -> str:
    """What is wrong with a folder, in one line that names it; empty where it matters to no check."""
    try:
        list(verify(folder))
    except ValueError as error:
        return str(error)
    return ""


def clear(line, folder) -> bool:
    return not line or ("\n" not in line and str(folder) in line)


def states(folder) -> dict[str, bool | None]:
    return {check.name: check.ok for check in verify(folder)}


@each_pack
def test_everything_agrees_and_only_inputs_are_not_compared(name, capsys):
    assert main(["verify", str(GOLDEN / name)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in lines:
        known = line.endswith("not compared: an input") or line == UNDESCRIBED
        assert known or not line.startswith("skip")
    stored = load_file(GOLDEN / name / "io.safetensors")
    assert {f"{key}:" for key in stored} <= {line.split()[1] for line in lines}


@each_pack
def test_every_changed_result_is_noticed(name, copied):
    before = states(copied)
    stored = load_file(copied / "io.safetensors")
    outputs = [key for key in stored if before[key]]
    save_file(stored | {key: changed(stored[key]) for key in outputs}, copied / "io.safetensors")
    after = states(copied)
    assert [key for key in outputs if after[key] is not False] == []


@each_pack
def test_what_config_lacks_is_one_line_or_not_needed(name, copied):
    path = copied / "config.json"
    config = json.loads(path.read_text())
    keys = [key for key in config if key != "case"]  # without it another case may know the folder
    for key in keys:
        path.write_text(json.dumps({other: config[other] for other in config if other != key}))
        assert clear(told(copied), copied)
    for number, key in enumerate(keys[:4]):
        path.write_text(json.dumps(config | {key: ({}, -1)[number % 2]}))
        assert clear(told(copied), copied)


@each_pack
def test_missing_tensors_are_one_line(name, copied):
    before = states(copied)
    stored = load_file(copied / "io.safetensors")
    for key in [key for key in stored if before[key] is None]:
        save_file(
            {other: value for other, value in stored.items() if other != key}, copied / "io.safetensors"
        )
        assert clear(told(copied), copied)
    (copied / "io.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no such file|cannot be read"):
        list(verify(copied))


@each_pack
def test_missing_weights_are_one_line(name, copied):
    path = copied / "weights.safetensors"
    if not path.is_file():
        pytest.skip("a folder without weights")
    weights = load_file(path)
    for key in list(weights)[:: max(1, len(weights) // 2)]:
        for other_shape in ({}, {key: torch.zeros(3, 3, 3)}):
            rest = {other: value for other, value in weights.items() if other != key}
            save_file(rest | other_shape, path)
            line = told(copied)
            assert line
            assert clear(line, copied)


@each_pack
def test_broken_cases_are_one_line(name, copied):
    if name not in CASES:
        pytest.skip("a folder without cases.json")
    path = copied / "cases.json"
    cases = json.loads(path.read_text())
    for key in cases:
        path.write_text(json.dumps({other: cases[other] for other in cases if other != key}))
        assert clear(told(copied), copied)
        path.write_text(json.dumps(cases | {key: 3}))
        assert clear(told(copied), copied)
    path.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        list(verify(copied))
