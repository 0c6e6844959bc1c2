"""Harmon and UniPic drawn from folders of tiny random weights under their official names."""

import shutil

import numpy as np
import pytest
import text_to_image_folders as folders
import torch
from safetensors.torch import save_file
from unified.tokenizers.images import to_uint8
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.text import byte_tokenizer

import unified
from unified.apps.cli import main
from unified.checkpoints.harmon.network import HEAD, Harmon, Prompts, language_model
from unified.checkpoints.harmon.sampling import sample
from unified.checkpoints.latent_autoencoder import LatentAutoencoder, LatentAutoencoderConfig, official
from unified.checkpoints.mar.head import our_name
from unified.checkpoints.mar.network import MAR, MARConfig, to_images
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.decoding.noise import PositionNoise
from unified.heads.denoiser import Denoiser
from unified.orders.masked_schedule import shuffled_orders

LLM = {  # the shapes of the golden packs, with an id for every byte
    "hidden_size": 40,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
}
CHANNELS, PATCH = 4, 2
OF_HEAD = [
    *(f"{part}.{kind}" for part in ("time_embed.mlp.0", "time_embed.mlp.2", "cond_embed", "input_proj",
      *(f"res_blocks.{n}.{name}" for n in range(2) for name in
        ("in_ln", "mlp.0", "mlp.2", "adaLN_modulation.1")),
      "final_layer.adaLN_modulation.1", "final_layer.linear") for kind in ("weight", "bias")),
]  # fmt: skip
OFFICIAL = {f"mar.diffloss.{our_name(name)}": HEAD + name for name in OF_HEAD}


def network(family):
    torch.manual_seed(0)
    config = MARConfig(
        channels=CHANNELS * PATCH**2,
        tokens=16,
        classes=5,
        width=32,
        buffer=3,
        depth=(2, 2),
        heads=4,
        hidden=64,
    )
    mar = MAR(config, Denoiser(32, config.channels, 24, 2, 2 * config.channels))
    return Harmon(language_model(LLM), mar, 20 if family == "unipic" else 0)


def saved(folder, family):
    folder.mkdir()
    state = folders.spread(network(family), 0.15)
    state = {OFFICIAL.get(name, name): value.clone() for name, value in state.items()}
    for name in ("proj_out.2.weight", f"{HEAD}cond_embed.weight"):  # a prompt has to show
        state[name] *= 30
    del state["llm.lm_head.weight"]  # tied
    state["vae.encoder.conv_in.weight"] = torch.zeros(1)
    save_file(state, folder / "transformer.safetensors")
    net = NetworkConfig(latent=6, width=32, multipliers=(1, 1), blocks=1)
    coder = LatentAutoencoder(LatentAutoencoderConfig(network=net, channels=CHANNELS))
    folders.spread(coder, 0.1)
    torch.save({"model": official(coder)}, folder / "tokenizer.ckpt")
    byte_tokenizer().backend_tokenizer.save(str(folder / "tokenizer.json"))
    folders.write_config(
        folder,
        {
            "model_type": family,
            "transformer": {"num_heads": 4, "llm": LLM},
            "tokenizer": {"scale": 0.5},
            "side": 16,
            "steps": 2,
            "edit_steps": 1,
        },
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("harmon")
    return lambda family: root / family if (root / family).is_dir() else saved(root / family, family)


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder("harmon"), tmp_path / "harmon")


@pytest.mark.parametrize("family", ["harmon", "unipic"])
def test_a_prompt_is_drawn_the_same_each_time(folder, family):
    model = unified.load(folder(family), device="cpu")
    image = model.draw("a red cube")
    assert image.shape == (16, 16, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, model.draw("a red cube"))
    assert (image != model.draw("a dog")).any()
    assert (image != model.draw("a red cube", guidance=1.0)).any()
    model.seed = 1
    other = model.draw("a red cube", size=(24, 16))
    assert other.shape == (24, 16, 3)
    assert (other[:16] != image).any()
    assert model.describe()["family"] == family
    with pytest.raises(ValueError, match="use draw"):
        model.ask("What is this?")


@torch.no_grad()
def test_what_is_drawn_is_what_the_verified_pieces_draw(folder):
    model = unified.load(folder("harmon"), device="cpu", seed=2)
    words = byte_tokenizer()
    frame = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    texts = ("Generate an image: a dog", "Generate an image.")
    lists = [words(frame.format(text), add_special_tokens=False).input_ids for text in texts]
    longest = max(map(len, lists))
    ids = torch.tensor([[*one, *[0] * (longest - len(one))] for one in lists])
    mask = torch.arange(longest) < torch.tensor([[len(one)] for one in lists])
    how = MaskedDecoding(steps=2, scale=3.0, linear=False)
    orders = shuffled_orders(1, (16,), 2)
    tokens = sample(model.model, Prompts(ids, mask), orders, (4, 4), PositionNoise([2]), how)
    want = model.drawer.autoencoder.decode(to_images(tokens, 4, PATCH) / 0.5)
    np.testing.assert_array_equal(model.draw("a dog"), to_uint8(want)[0])


def test_unipic_edits_pictures_of_any_size(folder):
    model = unified.load(folder("unipic"), device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (18, 14, 3), dtype=np.uint8)
    edited = model.edit(picture, "Make it blue.")
    assert edited.shape == picture.shape
    np.testing.assert_array_equal(edited, model.edit(picture, "Make it blue."))
    assert (edited != model.edit(picture, "Remove the dog.")).any()
    assert (edited != model.edit(255 - picture, "Make it blue.")).any()
    assert (edited != model.edit(picture, "Make it blue.", temperature=0.0)).any()


def test_the_commands_draw_and_edit(folder, tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    assert main(["draw", "a dog", "--model", str(folder("harmon")), "--out", str(one)]) == 0
    told = ["--model", str(folder("unipic")), "--out", str(two)]
    assert main(["edit", str(one), "Make it blue.", *told]) == 0
    assert two.is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transformer": "7B"}, "unknown transformer '7B': released are 0.5B, 1.5B"),
        ({"transformer": {"num_heads": 4}}, "llm is missing"),
        ({"transformer": {"num_heads": 4, "llm": {**LLM, "hidden_size": 48}}}, "weights do not fit"),
        ({"transformer": {"num_heads": 4, "llm": LLM, "width": 3}}, "unknown key 'width'"),
        ({"tokenizer": {"scale": 0}}, "scale must not be 0"),
        ({"side": 15}, "multiples of 4 pixels, got 15x15"),
        ({"frame": "no place"}, "frame must hold {text} once"),
        ({"speed": 3}, "unknown key 'speed'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(copied, changes, said):
    folders.write_config(copied, {**folders.read_config(copied), **changes})
    with pytest.raises(ValueError, match=said) as refused:
        unified.load(copied, device="cpu")
    assert "\n" not in str(refused.value)


def test_without_a_text_tokenizer_it_is_refused(copied):
    (copied / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no tokenizer\.json: put the text tokenizer there"):
        unified.load(copied, device="cpu")


@pytest.mark.parametrize(
    ("prompt", "size", "said"), [("  ", None, "the prompt is empty"), ("a dog", (15, 16), "multiples of 4")]
)
def test_prompts_and_sizes_that_it_does_not_take(folder, prompt, size, said):
    with pytest.raises(ValueError, match=said):
        unified.load(folder("harmon"), device="cpu").draw(prompt, size=size)
