"""Recipes with a continuous head: trained by the command line, then drawn, edited and rolled out with; what
cannot be trained is refused before anything is made."""

import numpy as np
import pytest
import torch
from PIL import Image
from unified.tokenizers.kl import KLConfig, KLTokenizer
from unified.tokenizers.networks import NetworkConfig
from unified.train.__main__ import main
from unified.train.prepared import id_type
from unified.train.stage_model import fitted

import unified
from unified.apps.cli import main as unified_main
from unified.bound import is_exact
from unified.stream.visual_files import save_visual


@pytest.fixture(scope="module")
def kl(tmp_path_factory):
    """A tokenizer of the kind `kl` that has seen a few noises."""
    torch.manual_seed(0)
    network = NetworkConfig(latent=4, width=32, multipliers=(1,), blocks=0, groups=8, patch=8)
    tokenizer = KLTokenizer(KLConfig(network=network))
    with torch.no_grad():
        for _ in range(4):
            tokenizer.training_pass(torch.rand(2, 3, 32, 32) * 2 - 1, [])
    folder = tmp_path_factory.mktemp("kl")
    save_visual(tokenizer, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "order"),
    [("flow", "masked"), ("block_flow", "blocks(side=2)"), ("diffusion", "masked(steps=3)")],
)
def test_it_is_trained_and_drawn_with_by_the_command_line(kl, tmp_path, capsys, head, order):
    options = [f"model.head={head}", f"order={order}", "merge=0", f"visual={kl}", "stages.0.steps=3"]
    told = 'model.head_options={"inner": 16, "depth": 1, "steps": 4}'
    command = ["nano_smoke", "--cpu", "--out", str(tmp_path / "run")]
    assert main([*command, "--override", *options, told, "sheet_every=0"]) == 0
    model = str(tmp_path / "run" / "model")
    drawn, edited = tmp_path / "a.png", tmp_path / "b.png"
    size = ["--size", "32x32"]
    assert unified_main(["draw", "--model", model, "Draw a red circle.", "--out", str(drawn), *size]) == 0
    assert unified_main(["edit", "--model", model, str(drawn), "Make it blue.", "--out", str(edited)]) == 0
    picture = np.asarray(Image.open(drawn))
    assert picture.shape == (32, 32, 3)
    assert np.asarray(Image.open(edited)).std() > 0
    assistant = unified.load(model)
    assistant.side = 32
    assert not is_exact(assistant.model.head)
    frames = assistant.imagine(picture, [{"forward": 1}, {"camera": [0, 5]}])
    assert frames.shape == (2, 32, 32, 3)
    masked = np.zeros((32, 32), np.uint8)
    masked[:16] = 255
    assert assistant.edit(picture, "Make it blue.", mask=masked).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.head=gauss"], "unknown head 'gauss'"),
        (["model.head=flow", "order=spiral"], "unknown order 'spiral'"),
        (["model.head=categorical", 'model.head_options={"steps": 4}'], "takes no head_options"),
        (["model.head=flow", "stages.0.objective.name=scale_weighted"], "needs exact log-prob"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, capsys, overrides, said):
    assert main(["nano_smoke", "--cpu", "--out", str(tmp_path), "--override", *overrides]) == 2
    assert said in capsys.readouterr().err


def test_a_head_and_a_tokenizer_of_different_sorts_are_refused():
    from unified.tokenizers.vq import VQConfig, VQTokenizer
    from unified.train.recipe import ModelShape

    with pytest.raises(ValueError, match="give a KL-VAE"):
        fitted(ModelShape(head="flow"), VQTokenizer(VQConfig()))


def test_ids_of_latents_are_kept_whole():
    assert [id_type(size) for size in (2**16, 2**31, 2**60)] == [np.uint16, np.int32, np.int64]
