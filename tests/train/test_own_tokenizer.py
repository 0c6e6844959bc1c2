"""`unified.train tokenizer`: every kind trains, is resumed, is loaded by the one function, and in several
processes as in one; data are read and refused as they should be."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from unified.tasks.outside.picture_folders import clip_frames, found_files
from unified.tokenizers.kinds import KINDS, kind_of
from unified.tokenizers.reconstruction import reconstruct
from unified.train.__main__ import main
from unified.train.own_images import Reading, as_floats, feed, prepared

from unified.pretrained import load_tokenizer

TINY = ["--size", "16", "--stride", "4", "--codes", "16", "--dim", "4", "--tokens", "8", "--width", "32"]
TINY += ["--frames", "2", "--batch", "4", "--cpu", "--log-every", "2", "--save-every", "2"]


def picture(seed: int, size: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.empty((size, size, 3), np.uint8)
    image[:] = rng.integers(0, 256, 3)
    top, left = rng.integers(0, size // 2, 2)
    image[top : top + size // 2, left : left + size // 3] = rng.integers(0, 256, 3)
    return image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images in two folders, and clips: a folder of frames and an animation."""
    root = tmp_path_factory.mktemp("data")
    for number in range(8):
        folder = root / "images" / ("a" if number % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(folder / f"{number}.png")
    frames = [Image.fromarray(picture(20 + number)) for number in range(5)]
    (root / "clips" / "walk").mkdir(parents=True)
    for number, frame in enumerate(frames):
        frame.save(root / "clips" / "walk" / f"{number}.png")
    frames[0].save(root / "clips" / "jump.gif", save_all=True, append_images=frames[1:])
    return root


def run(data: Path, out: Path, kind: str, *more: str) -> int:
    source = data / ("clips" if kind_of(kind).clips else "images")
    return main(["tokenizer", "--kind", kind, "--data", str(source), "--out", str(out), *TINY, *more])


def last_record(out: Path) -> dict:
    return json.loads((out / "log.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_and_loads(data, tmp_path, kind, capsys):
    out = tmp_path / "run"
    assert run(data, out, kind, "--steps", "4", "--sheet-every", "4") == 0, capsys.readouterr().err
    record = last_record(out)
    assert record["step"] == 4
    assert np.isfinite(record["loss"])
    assert np.isfinite(record["validation"]["psnr"])
    assert ("usage" in record["validation"]) == (kind != "kl")
    if kind in ("vq", "residual", "bsq", "fvq"):
        assert list(record["validation"]["maps"]) == ["1x1", "2x2", "4x4"]
    assert Image.open(out / "sheets" / "step-0000004.png").width >= 16
    tokenizer = load_tokenizer(out)
    frames = (2,) if kind_of(kind).clips else ()
    images = as_floats(np.zeros((1, *frames, 16, 16, 3), np.uint8))
    assert reconstruct(tokenizer, images).images.shape == images.shape
    assert json.loads((out / "report.json").read_text())["images"] >= 1
    assert run(data, out, kind, "--steps", "4", "--sheet-every", "4") == 0  # finished: nothing is done again
    assert run(data, out, kind, "--steps", "5", "--sheet-every", "4") == 2
    assert "another training.steps" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["vq", "gigatok", "larp", "selftok"])
def test_interrupted_training_goes_on_as_if_it_had_not_been(data, tmp_path, kind, monkeypatch):
    from unified.train import own_tokenizer

    assert run(data, tmp_path / "whole", kind, "--steps", "4") == 0
    feed = own_tokenizer.feed

    def stopping(*arguments):
        for number, batch in enumerate(feed(*arguments)):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(own_tokenizer, "feed", stopping)
    assert run(data, tmp_path / "part", kind, "--steps", "4") == 130
    monkeypatch.setattr(own_tokenizer, "feed", feed)
    assert run(data, tmp_path / "part", kind, "--steps", "4") == 0
    whole, part = (load_tokenizer(tmp_path / name).state_dict() for name in ("whole", "part"))
    assert all(torch.equal(value, part[name]) for name, value in whole.items())
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "part")]
    assert logs[0] == logs[1]


def mean_colours(images):
    """A teacher: 3 channels on a grid of 2 x 2."""
    return torch.nn.functional.adaptive_avg_pool2d(images, 2)


@pytest.mark.parametrize("kind", ["gigatok", "hita", "composite"])
def test_a_teacher_of_ones_own(data, tmp_path, kind, monkeypatch, capsys):
    from types import ModuleType

    module = ModuleType("my_features")
    module.mean_colours = mean_colours
    monkeypatch.setitem(sys.modules, "my_features", module)
    out = tmp_path / "run"
    assert run(data, out, kind, "--steps", "2", "--features", "my_features:mean_colours") == 0
    record = last_record(out)
    assert 0 <= record["vision" if kind == "hita" else "semantic"] <= 2
    tokenizer, images = load_tokenizer(out), torch.zeros(1, 3, 16, 16)
    if kind == "hita":
        with pytest.raises(ValueError, match="set its `teacher`"):
            tokenizer.encode(images)
        tokenizer.teacher = mean_colours
    assert tokenizer.encode(images)[0].shape[1] == tokenizer.line
    assert run(data, tmp_path / "no", "vq", "--features", "my_features:mean_colours") == 2
    assert "features are for gigatok, hita" in capsys.readouterr().err


def test_all_losses_together(data, tmp_path):
    from unified.checkpoints.lpips import ALEXNET, Activations

    torch.manual_seed(0)
    torch.save(Activations(ALEXNET).state_dict(), tmp_path / "alexnet.pth")
    widths = (64, 192, 384, 256, 256)
    linear = {f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in enumerate(widths)}
    torch.save(linear, tmp_path / "linear.pth")
    files = [str(tmp_path / "alexnet.pth"), str(tmp_path / "linear.pth")]
    more = ["--size", "32", "--lpips", *files, "--adversarial", "0.5", "--entropy", "0.1", "--flip"]
    assert run(data, tmp_path / "run", "vq", "--steps", "2", "--average", "0.5", *more) == 0
    record = last_record(tmp_path / "run")
    assert {"perceptual", "adversarial", "discriminator", "quantiser", "pixels", "psnr"} <= record.keys()
    assert record["perceptual"] > 0


def test_what_selftok_cannot_be_trained_by_is_said(data, tmp_path, capsys):
    assert run(data, tmp_path / "run", "selftok", "--steps", "2", "--adversarial", "1") == 2
    assert "not trained by comparing images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--kind", "zebra"], "unknown kind 'zebra'"),
        (["--kind", "fvq", "--codes", "12"], "square number of codes"),
        (["--kind", "gigatok", "--tokens", "12"], "power of two"),
        (["--kind", "vq", "--stride", "3"], "power of two that divides"),
        (["--kind", "vq", "--override", "training.losses.pixels=l3"], "training.losses.pixels=l3"),
        (["--kind", "larp", "--frames", "6"], "4 frames, a clip has 6"),
    ],
)
def test_bad_options_are_one_line(data, tmp_path, options, reason, capsys):
    words = [
        "tokenizer",
        "--data",
        str(data / "images"),
        "--out",
        str(tmp_path / "run"),
        *TINY,
        "--steps",
        "2",
    ]
    assert main([*words, *options]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_a_damaged_image_is_named_or_left_out(data, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.fromarray(picture(0)).save(tmp_path / "images" / "good.png")
    (tmp_path / "images" / "bad.png").write_bytes(b"no image")
    assert run(tmp_path, tmp_path / "run", "vq", "--steps", "2") == 2
    assert "bad.png" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "run", "vq", "--steps", "2", "--skip-bad", "--resume", "none") == 0
    assert "1 files left out" in capsys.readouterr().out


def test_images_are_read_once_and_held_out_by_name(data, tmp_path):
    reading = Reading(size=16, validation=0.3)
    found = prepared([data / "images"], reading, tmp_path)
    assert found.array.shape == (8, 16, 16, 3)
    assert sorted([*found.train, *found.validation]) == list(range(8))
    assert 1 <= len(found.validation) < 8
    again = prepared([data / "images"], reading, tmp_path)
    assert len(list(tmp_path.glob("*.u8"))) == 1
    assert np.array_equal(found.validation, again.validation)
    batches = feed(found, 4, seed=1)
    second = [next(batches) for _ in range(3)][2]
    assert torch.equal(second, next(feed(found, 4, seed=1, start=2)))
    assert second.shape == (4, 3, 16, 16)


def test_clips_are_cut_from_folders_and_animations(data, tmp_path):
    files = found_files([data / "clips"], clips=True)
    assert [path.name for path in files] == ["jump.gif", "walk"]
    found = prepared([data / "clips"], Reading(size=16, frames=2, validation=0.5), tmp_path)
    assert found.array.shape == (4, 2, 16, 16, 3)
    assert next(feed(found, 3, seed=0)).shape == (3, 3, 2, 16, 16)
    moving, still = (np.stack(list(clip_frames(path, 16))) for path in files)
    assert moving.shape == still.shape == (5, 16, 16, 3)
    assert np.abs(moving.astype(int) - still).mean() < 16  # the animation has fewer colours
    with pytest.raises(ValueError, match="5 frames, a clip has 6"):
        prepared([data / "clips"], Reading(size=16, frames=6), tmp_path)


def test_clips_are_cut_from_videos(tmp_path):
    pytest.importorskip("av")
    from unified.envs.recordings.video import VideoWriter

    (tmp_path / "films").mkdir()
    frames = [picture(number, 16) for number in range(5)]
    with VideoWriter(tmp_path / "films" / "a.mp4") as video:
        for frame in frames:
            video.append(frame)
    found = prepared([tmp_path / "films"], Reading(size=16, frames=2), tmp_path / "data")
    assert found.array.shape == (2, 2, 16, 16, 3)
    assert np.array_equal(found.array.reshape(4, 16, 16, 3), frames[:4])  # written without loss
    (tmp_path / "films" / "b.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"b.mp4: not a readable video"):
        prepared([tmp_path / "films"], Reading(size=16, frames=2), tmp_path / "data")


@pytest.mark.slow
def test_two_processes_train_as_one(data, tmp_path):
    """Without draws that differ by process the weights are those of one process, up to rounding."""
    assert run(data, tmp_path / "one", "vq", "--steps", "3", "--learning-rate", "1e-4") == 0
    words = ["tokenizer", "--kind", "vq", "--data", str(data / "images"), "--out", str(tmp_path / "two")]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]
    more = ["--steps", "3", "--learning-rate", "1e-4"]
    done = subprocess.run(
        [*start, "unified.train", *words, *TINY, *more], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_tokenizer(tmp_path / name).state_dict() for name in ("one", "two"))
    assert all(torch.allclose(value, two[name], atol=1e-3) for name, value in one.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns(kind):
    """On 64 pictures: reconstructions gain, Selftok's velocities come nearer."""
    from unified.tokenizers.kinds import Wanted
    from unified.train.tokenizer import LossConfig, RestartConfig, TokenizerTrainingConfig, train_tokenizer

    images = as_floats(np.stack([picture(number, 16) for number in range(64)]))
    images = images[:, :, None].expand(-1, -1, 2, -1, -1) if kind_of(kind).clips else images
    torch.manual_seed(0)
    wanted = Wanted(size=16, stride=4, codes=64, dim=8, tokens=16, frames=2)
    tokenizer = kind_of(kind).build(kind_of(kind).small(wanted))
    rng = torch.Generator().manual_seed(0)
    batches = (images[torch.randint(64, (8,), generator=rng)] for _ in range(60))
    config = TokenizerTrainingConfig(
        steps=60,
        learning_rate=2e-3,
        log_every=1,
        losses=LossConfig(pixels=kind_of(kind).pixels),
        restarts=RestartConfig() if kind_of(kind).restarts else None,
    )
    records = train_tokenizer(tokenizer, batches, config, generator=torch.Generator().manual_seed(0))
    name = "diffusion" if kind == "selftok" else "pixels"
    first, last = (sum(r[name] for r in part) / 8 for part in (records[:8], records[-8:]))
    print(f"{kind}: {name} {first:.3f} -> {last:.3f}")
    assert last < 0.9 * first  # measured: 0.47 to 0.63 for grids, 0.84 and 0.88 for gigatok and hita
