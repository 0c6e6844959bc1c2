"""The three trainings as a user types them, on a user's own traces, and an answer of what they made."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from unified.train.sketchpad.__main__ import main

import unified
from unified.apps import latent_sketchpad
from unified.checkpoints import autoencoder_kl, sketch_decoder
from unified.checkpoints.autoencoder_kl import AutoencoderKL
from unified.checkpoints.mineworld_networks import MineWorldVQConfig

QUICK = ["--cpu", "--epochs", "1", "--rows", "2", "--accumulation", "1"]


@pytest.fixture
def vae(tmp_path):
    folder = tmp_path / "vae"
    folder.mkdir()
    torch.manual_seed(0)
    made = AutoencoderKL(MineWorldVQConfig(latent=4, widths=(8, 16), groups=4, attention=True))
    save_file(dict(made.state_dict()), folder / autoencoder_kl.WEIGHTS)
    options = {"latent_channels": 4, "block_out_channels": [8, 16], "norm_num_groups": 4}
    (folder / "config.json").write_text(json.dumps(options))
    return folder


@pytest.mark.parametrize("name", ["gemma3", "qwen2_5_vl"])
def test_stage_after_stage(name, folder, traces, strokes, vae, tmp_path, capsys):
    first, second, third = tmp_path / "text", tmp_path / "head", tmp_path / "decoder"
    data = ["--traces", str(traces)]
    before = {path.name: path.read_bytes() for path in folder(name).iterdir()}
    assert main(["text", "--model", str(folder(name)), *data, "--out", str(first), *QUICK]) == 0
    small = ["--images", "3", "--depth", "1", "1", "--attention-heads", "1"]
    assert main(["latents", "--model", str(first), *data, "--out", str(second), *small, *QUICK]) == 0
    drawn = ["--drawings", str(strokes), "--pictures", "2", "--vae", str(vae), "--side", "16"]
    layers = ["--layers", "1", "--heads", "4", "--inner", "16"]
    assert main(["decoder", "--model", str(first), *data, *drawn, *layers, "--out", str(third), *QUICK]) == 0
    told = capsys.readouterr().out
    assert "2 examples" in told
    assert "4 examples" in told
    assert "8 pictures" in told
    assert before == {path.name: path.read_bytes() for path in folder(name).iterdir()}

    whole = load_file(first / "model.safetensors")
    output, words = (
        next(value for name, value in whole.items() if name.endswith(f"{part}.weight"))
        for part in ("lm_head", "embed_tokens")
    )
    assert output.shape == words.shape
    assert not torch.equal(output, words)
    assert unified.load(first, device="cpu", dtype="float32").ask("What?", max_tokens=2) is not None
    assert sketch_decoder.load(third).size == 16
    again = ["--decoder", str(third), "--out", str(second)]
    assert main(["latents", "--model", str(first), *data, *again, *small, *QUICK]) == 0

    words = [str(traces / "images" / "0_0.png"), "--model", str(first), "--head", str(second)]
    saved = tmp_path / "answer"
    more = ["--decoder", str(third), "--own", "--max-tokens", "3", "--save", str(saved)]
    assert latent_sketchpad.main([*words, *more]) == 0
    assert (saved / "answer.txt").is_file()
    made = latent_sketchpad.load(first, head=second, decoder=third)
    features = torch.randn(made.pad.tokens * made.pad.connector.merge, 32)
    picture = made.drawn(features).picture
    assert picture.shape == (16, 16, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not JSON", "records.jsonl line 3: "),
        ('{"input_text": "a"}', "records.jsonl line 3: a record has the fields"),
    ],
)
def test_a_malformed_record_is_one_line(folder, traces, tmp_path, line, said, capsys):
    with (traces / "records.jsonl").open("a") as index:
        index.write(line + "\n")
    out = tmp_path / "out"
    given = ["text", "--model", str(folder("gemma3")), "--traces", str(traces), "--out", str(out), *QUICK]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_damaged_picture_is_named_by_its_line(folder, traces, tmp_path, capsys):
    (traces / "images" / "1_2.png").write_bytes(b"no picture")
    given = [
        "text",
        "--model",
        str(folder("gemma3")),
        "--traces",
        str(traces),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*given, *QUICK]) == 2
    assert "records.jsonl line 2: cannot read image '1_2.png'" in capsys.readouterr().err
    assert main([*given, "--skip-bad", *QUICK]) == 0
    assert "1 bad records left out, the first: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["decoder"], "needs --vae"),
        (["text"], "there is no trace"),
        (["latents", "--depth", "0", "1", "--traces", "{traces}"], "whole numbers from 1"),
        (["text", "--epochs", "nan", "--traces", "{traces}"], "epochs must be a finite number"),
    ],
)
def test_bad_input_is_one_line(folder, traces, tmp_path, words, said, capsys):
    words = [word.format(traces=traces) for word in words]
    given = [*words, "--model", str(folder("gemma3")), "--out", str(tmp_path / "out"), "--cpu"]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_head_is_refused(folder, tmp_path, capsys):
    Image.new("RGB", (24, 24)).save(tmp_path / "a.png")
    assert latent_sketchpad.main([str(tmp_path / "a.png"), "--model", str(folder("gemma3"))]) == 2
    assert "no vision head" in capsys.readouterr().err
