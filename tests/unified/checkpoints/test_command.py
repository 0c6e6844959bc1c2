"""`python -m unified.checkpoints verify` as a user types it."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT.parent / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden folders are not here")


def verify(*folders):
    command = [sys.executable, "-m", "unified.checkpoints", "verify", *map(str, folders)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@needs_golden
def test_agreement_is_status_0_with_a_line_per_tensor():
    folder = GOLDEN / "var_tokenizer_full_structure"
    result = verify(folder, GOLDEN / "mineworld_actions")
    assert result.returncode == 0, result.stdout
    for name in load_file(folder / "io.safetensors"):
        assert f" {name}: " in result.stdout
    assert "largest error" in result.stdout
    assert "atol" in result.stdout


@needs_golden
def test_a_changed_output_is_status_1(tmp_path):
    source = GOLDEN / "var_tokenizer_full_structure"
    tensors = load_file(source / "io.safetensors")
    tensors["idx.0"] = tensors["idx.0"] + 1
    save_file(tensors, tmp_path / "io.safetensors")
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    result = verify(tmp_path)
    assert result.returncode == 1
    assert "FAIL idx.0" in result.stdout


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"vqvae_kwargs": {"ch": "x"}}'])
def test_a_broken_folder_is_status_2_and_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    result = verify(tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
