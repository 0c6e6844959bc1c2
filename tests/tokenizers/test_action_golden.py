"""The published action tokenizer: golden agreement, and what happens to a broken golden folder."""

import json
import shutil
from pathlib import Path

import pytest

from unified.checkpoints.mineworld_actions import matches, verify

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "mineworld_actions"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden/mineworld_actions is absent")


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "golden"
    shutil.copytree(GOLDEN, copy, copy_function=shutil.copyfile)
    copy.chmod(0o755)
    return copy


def test_the_folder_is_recognised_by_its_configuration():
    assert matches(json.loads((GOLDEN / "config.json").read_text()), GOLDEN)
    assert not matches({"vocab_size": 4096}, GOLDEN)


def test_everything_agrees_exactly():
    checks = list(verify(GOLDEN))
    assert [str(check) for check in checks if check.ok is False] == []
    assert [check.name for check in checks if check.ok is None] == ["camera_degrees"]
    assert {"token_ids", "camera_bins", "lin_camera_bins", "vpt_camera_bins", "bin_edge_degrees"} <= {
        check.name for check in checks
    }


@pytest.mark.parametrize(
    ("name", "text", "failing"),
    [
        ("actions.jsonl", '"token_ids":[8257,8225', "actions.jsonl token_ids"),
        ("env_actions.jsonl", '"token_ids":[8257,8225', "env_actions.jsonl token_ids"),
        ("vocab.json", '"attack": 8193', "vocab.json"),
    ],
)
def test_a_wrong_number_fails_its_check(folder, name, text, failing):
    path = folder / name
    content = path.read_text()
    assert text in content
    path.write_text(content.replace(text, text[:-1] + "6", 1))
    assert failing in {check.name for check in verify(folder) if check.ok is False}


def test_another_offset_fails_every_comparison_of_ids(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "action_vocab_offset": 0}))
    failing = {check.name for check in verify(folder) if check.ok is False}
    assert {"vocab.json", "token_ids", "actions.jsonl token_ids", "env_actions.jsonl token_ids"} <= failing
    assert "camera_bins" not in failing


@pytest.mark.parametrize("name", ["actions.jsonl", "env_actions.jsonl", "vocab.json", "io.safetensors"])
def test_a_missing_or_corrupt_file_is_one_clear_error(folder, name):
    (folder / name).write_bytes(b'{"raw": \n')
    with pytest.raises(ValueError, match=name) as corrupt:
        list(verify(folder))
    assert "\n" not in str(corrupt.value)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name) as missing:
        list(verify(folder))
    assert "\n" not in str(missing.value)
