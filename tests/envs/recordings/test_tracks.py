"""Real action tracks of human play."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from unified.envs.recordings import line_of, read_track
from unified.tokenizers.action import BUTTONS, HOTBAR, ActionConfig, ActionTokenizer

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "minecraft"
real = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/minecraft is absent")
TREECHOP = DATA / "treechop-f153ac423f61-20210916-183423.chunk_000.actions.jsonl"
SNIPPY = DATA / "snippy-chartreuse-mastiff-f79998db196d-20220401-224517.chunk_001.actions.jsonl"


@real
@pytest.mark.parametrize("path", [TREECHOP, SNIPPY], ids=["treechop", "snippy"])
def test_real_tracks_are_read_as_they_are(path):
    track = read_track(path)
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert track.problem is None
    assert track.valid.all()
    assert len(track.actions) == 1200
    for action, line in zip(track.actions, lines, strict=True):
        assert [action[name] for name in BUTTONS] == [line[name] for name in BUTTONS]
        np.testing.assert_array_equal(action["camera"], np.float32(line["camera"]))


@real
def test_the_tensor_track_is_a_part_of_the_line_track():
    lines, tensor = (
        read_track(SNIPPY).actions[240:],
        read_track(DATA / "sample_actions_0.actions.safetensors"),
    )
    assert len(tensor.actions) == len(lines) == 960
    for one, other in zip(tensor.actions, lines, strict=True):
        assert [one[name] for name in BUTTONS] == [other[name] for name in BUTTONS]
        np.testing.assert_allclose(one["camera"], other["camera"], atol=1e-4)


@real
@pytest.mark.parametrize("path", [TREECHOP, SNIPPY], ids=["treechop", "snippy"])
def test_real_play_survives_the_tokenizer(path):
    """What the slots can say comes back; the camera within the width of a bin."""
    actions = read_track(path).actions
    tokenizer = ActionTokenizer()
    decoded = tokenizer.decode(tokenizer.encode(actions))
    for got, want in zip(decoded, actions, strict=True):
        for name in set(BUTTONS) - {"swapHands", "inventory", "ESC", "drop", "pickItem"} - set(HOTBAR):
            partner = {"forward": "back", "left": "right", "sprint": "sneak", "use": "attack"}
            both = any(name in pair and want[pair[0]] and want[pair[1]] for pair in partner.items())
            assert got[name] == (0 if both else want[name])
    published = ActionTokenizer(ActionConfig.mineworld())
    assert torch.equal(
        published.encode(published.decode(published.encode(actions))), published.encode(actions)
    )
    errors = np.array(
        [np.abs(a["camera"] - b["camera"]).max() for a, b in zip(decoded, actions, strict=True)]
    )
    assert np.median(errors) < 0.1
    assert errors.max() < 1.5


def test_recorder_lines_without_a_video_are_a_track_too(tmp_path):
    lines = [line_of({"forward": 1}), line_of({}, state={"hotbar": 2}), line_of({"camera": [1, 2]})]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n")
    track = read_track(path)
    assert [action["forward"] for action in track.actions] == [1, 0, 0, 0]
    assert track.actions[1]["hotbar.3"] == 1  # a turn of the wheel
    assert track.valid.tolist() == [True, True, True, False]
    assert "line 4 of 4 unreadable" in track.problem


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"actions": np.zeros((2, 2), np.float32)}, {"columns": "jump,ESC"}),
        ({"actions": np.zeros((2, 2), np.float32)}, None),
        ({"other": np.zeros((2, 2), np.float32)}, {"columns": "jump,ESC"}),
        (
            {"actions": np.zeros(25, np.float32)},
            {"columns": ",".join([*BUTTONS, "camera_pitch", "camera_yaw"])},
        ),
    ],
)
def test_a_tensor_that_is_no_track_is_refused(tmp_path, tensors, metadata):
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        read_track(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        read_track(path)
