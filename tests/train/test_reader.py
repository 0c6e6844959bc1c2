"""Training a reader of actions from codes."""

import pytest
import torch
from unified.tasks.worlds.clips import WorldConfig
from unified.tasks.worlds.inverse import InverseConfig, InverseModel, InverseTraining, cost, load, train
from unified.train.reader import Vectors, main
from unified.train.transition import clips_of, reader_config, vectors_of, watched

from unified.apps.demo import random_model
from unified.pretrained import save_model


def seen(number=12):
    _, processor = random_model()
    config = WorldConfig(size=32, frames=5, players=("roam",), seed=1)
    return Vectors(clips_of(watched(config, "train", number, 1), processor), vectors_of(processor))


def test_it_learns_actions_from_codes():
    torch.set_num_threads(1)
    data = seen()
    channels, side = data.codebook.shape[1], data.codes.shape[0]
    config = InverseConfig(channels=channels, width=8, size=4 * side, memory=16)
    torch.manual_seed(0)
    models = InverseModel(config), train(data, config, InverseTraining(epochs=40, batch=6))
    with torch.no_grad():
        frames = data.frames(torch.arange(len(data)))
        before, after = (cost(model(frames), data.truth) for model in models)
    assert after < 0.6 * before


def test_a_share_of_the_clips_grows_blurred():
    data, generator = seen(6), torch.Generator().manual_seed(0)
    rows = torch.arange(6)
    frames = data.frames(rows)
    assert frames.shape == (6, 5, *data.codes.shape, data.codebook.shape[1])
    assert torch.equal(frames[2, 3].flatten(0, 1), data.codebook[data.codes.codes[2, 3].long()])
    assert torch.equal(data.visit(rows, 0.0, generator), frames)
    found = data.visit(rows, 1.0, generator)
    assert torch.equal(found[:, 0], frames[:, 0])  # clips begin as they are
    changed = (found != frames).flatten(2).any(dim=2)
    assert changed.any()
    assert (changed[:, 1:] >= changed[:, :-1]).all()  # and stay blurred
    assert found[changed].var() < frames[changed].var()


@pytest.mark.slow
def test_the_command_writes_a_reader_of_this_model(tmp_path, capsys):
    model, processor = random_model()
    save_model(tmp_path / "model", model, processor)
    out = tmp_path / "reader.safetensors"
    small = ("--clips", "2", "--epochs", "1", "--workers", "1")
    assert main(["--model", str(tmp_path / "model"), "--out", str(out), *small]) == 0
    assert "nats an action on held-out clips" in capsys.readouterr().out
    assert load(out).config == reader_config(processor)


@pytest.mark.parametrize(
    "wrong", [["--clips", "0"], ["--epochs", "x"], ["--model", "nowhere"], ["--seed", "-1"]]
)
def test_bad_input_is_one_line(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path / "reader.safetensors"), *wrong])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())
