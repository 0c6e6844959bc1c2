"""MAR, xAR and TokenBridge drawn from folders, with the autoencoder under either form of its names."""

import shutil

import numpy as np
import pytest
import text_to_image_folders as folders
import torch
from safetensors.torch import save_file
from unified.tokenizers.images import to_uint8
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.scalar_quantiser import ScalarQuantiser

import unified
from unified.apps.cli import main
from unified.checkpoints.latent_autoencoder import LatentAutoencoder, LatentAutoencoderConfig, official
from unified.checkpoints.mar.head import our_name
from unified.checkpoints.mar.network import MAR, MARConfig, to_images
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.mar.sampling import sample as sample_mar
from unified.checkpoints.tokenbridge.network import OUTPUT, TokenBridge
from unified.checkpoints.xar.network import XAR, XARConfig
from unified.decoding.noise import PositionNoise
from unified.heads.channel_codes import ChannelPredictor
from unified.heads.denoiser import Denoiser
from unified.orders.masked_schedule import shuffled_orders

CLASSES, CHANNELS = 5, 4
OPTIONS = {
    "mar": {"num_heads": 2},
    "xar": {"num_heads": 2},
    "tokenbridge": {"num_heads": 2, "head_heads": 2, "bits": 3},
}


def network(family):
    if family == "xar":
        return XAR(XARConfig(classes=CLASSES, channels=CHANNELS))
    if family == "mar":
        return MAR(MARConfig(classes=CLASSES, channels=4 * CHANNELS, tokens=4), Denoiser(24, 16, 16, 1, 32))
    backbone = MAR(MARConfig(classes=CLASSES, channels=CHANNELS))
    head = ChannelPredictor(24, CHANNELS, 8, 16, 1, 2, 32)
    return TokenBridge(backbone, head, ScalarQuantiser(3), tuple(range(CHANNELS)))


def published(family, module):
    """The weights of a random model under official names."""
    state = folders.spread(module, 0.3)
    if family == "xar":
        return {name.replace(".ada_lin.", ".adaLN_modulation."): value for name, value in state.items()}
    if family == "tokenbridge":
        table = "diffusion_pos_embed_learned"
        inner = {name.removeprefix("head.").removeprefix("backbone."): value for name, value in state.items()}
        return {OUTPUT if name == table else name: value for name, value in inner.items()}
    return {HEAD_NAMES.get(name, name): value for name, value in state.items()}


OF_HEAD = (
    *(f"{part}.{kind}" for part in ("time_embed.mlp.0", "time_embed.mlp.2", "cond_embed", "input_proj",
      "res_blocks.0.in_ln", "res_blocks.0.mlp.0", "res_blocks.0.mlp.2", "res_blocks.0.adaLN_modulation.1",
      "final_layer.adaLN_modulation.1", "final_layer.linear") for kind in ("weight", "bias")),
)  # fmt: skip
HEAD_NAMES = {f"diffloss.{our_name(name)}": f"diffloss.net.{name}" for name in OF_HEAD}


def saved(folder, family):
    folder.mkdir()
    torch.manual_seed(0)
    save_file(published(family, network(family)), folder / "transformer.safetensors")
    net = NetworkConfig(latent=6, width=32, multipliers=(1, 1), blocks=1)
    coder = LatentAutoencoder(LatentAutoencoderConfig(network=net, channels=CHANNELS))
    folders.spread(coder, 0.1)
    torch.save({"model": official(coder)}, folder / "kl16.ckpt")
    config = {"model_type": family, "transformer": OPTIONS[family], "tokenizer": {"scale": 0.5}, "steps": 4}
    folders.write_config(folder, {**config, "files": {"tokenizer": "kl16.ckpt"}})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("latents")
    return lambda family: root / family if (root / family).is_dir() else saved(root / family, family)


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder("mar"), tmp_path / "mar")


@pytest.mark.parametrize("family", OPTIONS)
def test_a_class_is_drawn_the_same_each_time_and_by_its_name(folder, family):
    (folder(family) / "classes.txt").write_text("cat\ndog\nowl\nfox\nant")
    model = unified.load(folder(family), device="cpu")
    image = model.draw("3")
    side = 8
    assert image.shape == (side, side, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, model.draw("fox"))
    assert (image != model.draw("1")).any()
    other = unified.load(folder(family), device="cpu", seed=1)
    assert (image != other.draw("3")).any()


@torch.no_grad()
def test_what_is_drawn_is_what_the_verified_pieces_draw(folder):
    model = unified.load(folder("mar"), device="cpu", seed=2)
    how = MaskedDecoding(steps=4, scale=2.9)
    orders = shuffled_orders(1, (4,), 2)
    tokens = sample_mar(model.model, torch.tensor([3]), orders, PositionNoise([2]), how)
    latent = to_images(tokens, 2, 2) / 0.5
    want = to_uint8(model.drawer.autoencoder.decode(latent))[0]
    np.testing.assert_array_equal(model.draw("3"), want)


@pytest.mark.parametrize("family", ["mar", "xar"])
def test_guidance_changes_what_is_drawn(folder, family):
    model = unified.load(folder(family), device="cpu")
    assert (model.draw("3") != model.draw("3", guidance=1.0)).any()


def test_the_command_draws(folder, tmp_path):
    out = tmp_path / "image.png"
    assert main(["draw", "2", "--model", str(folder("xar")), "--out", str(out)]) == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transformer": "giant"}, "unknown transformer 'giant'"),
        ({"transformer": {}}, "num_heads is missing"),
        ({"transformer": {"num_heads": 2, "width": 3}}, "unknown key 'width'"),
        ({"transformer": {"num_heads": 0}}, "num_heads must be a whole number of at least 1"),
        ({"tokenizer": {"scale": 0}}, "scale must not be 0"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"speed": 3}, "unknown key 'speed'"),
        ({"files": {"tokenizer": "none.ckpt"}}, "none.ckpt"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(copied, changes, said):
    folders.write_config(copied, {**folders.read_config(copied), **changes})
    with pytest.raises(ValueError, match=said) as refused:
        unified.load(copied, device="cpu")
    assert "\n" not in str(refused.value)


def test_an_autoencoder_of_other_channels_is_refused(copied):
    net = NetworkConfig(latent=6, width=32, multipliers=(1, 1), blocks=1)
    other = LatentAutoencoder(LatentAutoencoderConfig(network=net, channels=3))
    torch.save({"model": official(other)}, copied / "kl16.ckpt")
    with pytest.raises(ValueError, match="latents of 3 channels"):
        unified.load(copied, device="cpu")


@pytest.mark.parametrize(("prompt", "size"), [("9", None), ("bird", None), ("1", (16, 16))])
def test_prompts_and_sizes_that_it_does_not_take(folder, prompt, size):
    with pytest.raises(ValueError, match=r"a number from 0 to 4|this model draws 8x8 pixels"):
        unified.load(folder("mar"), device="cpu").draw(prompt, size=size)
