"""Infinity drawn from a folder: what `draw` gives is what the verified pieces give, by hand."""

import json
import shutil

import numpy as np
import pytest
import text_to_image_folders as folders
import torch
from transformers import AutoTokenizer, T5EncoderModel
from unified.tokenizers.images import to_uint8

import unified
from unified.checkpoints import infinity_generation
from unified.checkpoints.infinity_schedules import schedule
from unified.decoding.guidance import Constant
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.text_to_image.settings import scalekv


def load(folder, seed=0):
    return unified.load(folder, device="cpu", dtype="float32", seed=seed)


@pytest.fixture(scope="module")
def painter(infinity_folder):
    return load(infinity_folder)


def test_the_image_is_that_of_the_verified_pieces(painter, infinity_folder):
    """Features by transformers alone, generation by `infinity_generation`, which `verify` holds to the
    published outputs."""
    encoder = infinity_folder / "text_encoder"
    words, t5 = AutoTokenizer.from_pretrained(encoder), T5EncoderModel.from_pretrained(encoder).eval()
    batch = words(["a red cube"], padding="max_length", max_length=12, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = t5(**batch).last_hidden_state
    features = states[0, : int(batch.attention_mask.sum())]
    assert words.convert_ids_to_tokens(batch.input_ids[0])[len(features) - 1] == "</s>"
    shapes = schedule(1.0, "0.06M")
    sampler = Sampler(temperature=0.5, top_p=0.97)
    habits = infinity_generation.Habits(sampler=sampler, noise=PositionNoise([0]))
    want = infinity_generation.draw(painter.model, [features], shapes, Constant(3.0), habits=habits)
    image = painter.draw("a red cube")
    assert image.shape == (32, 32, 3)
    assert np.abs(image.astype(int) - to_uint8(want * 2 - 1)[0].astype(int)).max() <= 1


def test_seeds_prompts_and_guidance_change_the_image(painter, infinity_folder):
    image = painter.draw("a red cube")
    np.testing.assert_array_equal(image, painter.draw("a red cube"))
    assert (image != load(infinity_folder, seed=1).draw("a red cube")).any()
    assert (image != painter.draw("a blue cube")).any()
    assert (image != painter.draw("a red cube", guidance=1.0)).any()
    greedy = painter.draw("a red cube", temperature=0.0)
    np.testing.assert_array_equal(greedy, load(infinity_folder, seed=1).draw("a red cube", temperature=0.0))


@pytest.mark.parametrize("ratio", [0.5, 1.25])
def test_a_size_is_that_of_a_published_schedule(painter, ratio):
    shapes = schedule(ratio, "0.06M")
    height, width = (2 * side for side in shapes[-1])
    assert painter.drawer.shapes((height, width)) == shapes
    assert painter.draw("a red cube", size=(height, width)).shape == (height, width, 3)


def test_another_size_is_refused_with_the_nearest(painter):
    with pytest.raises(ValueError, match="30x30 pixels; near are 32x32"):
        painter.draw("a red cube", size=(30, 30))
    with pytest.raises(ValueError, match="9999x9998 pixels; near are 128x128, "):  # of its shape, not a strip
        painter.draw("a red cube", size=(9999, 9998))
    with pytest.raises(ValueError, match="at least one pixel, got 0x32"):
        painter.draw("a red cube", size=(0, 32))


def test_patchify_doubles_the_latent(tmp_path):
    painter = load(folders.infinity(tmp_path / "patchify", patchify=True))
    assert painter.drawer.stride == 4
    assert painter.draw("a red cube").shape == (64, 64, 3)


def test_scalekv_with_room_changes_nothing_and_without_does(painter):
    image = painter.draw("a red cube", scale_kv=10_000)
    np.testing.assert_array_equal(image, painter.draw("a red cube"))
    assert (image != painter.draw("a red cube", scale_kv=60)).any()


def test_scalekv_holds_each_layer_to_its_budget(painter):
    plan = painter.drawer.plan()
    policy = scalekv(plan, 2, 60)
    counts = [len(step.decide) for step in plan.steps]
    first = next(step for step in range(len(counts)) if sum(counts[:step]) > 60)
    assert sorted(policy.budgets) == list(range(first, len(counts)))
    assert {policy.budget(plan, step, 0) for step in range(first - 1, len(counts))} == {60}


def test_scalekv_by_a_file_of_published_budgets(painter, tmp_path):
    path = tmp_path / "budgets.json"
    table = {f"Scale {scale}": {"Max": 80, "Min": 40, "Block 0": 1, "Block 1": 0} for scale in (6, 7)}
    path.write_text(json.dumps(table))
    policy = scalekv(painter.drawer.plan(), 2, path)
    assert [policy.budgets[6].of(layer) for layer in (0, 1)] == [80, 40]
    with pytest.raises(ValueError, match="no such file"):
        painter.draw("a red cube", scale_kv=tmp_path / "none.json")
    path.write_text('{"Scale 7": {"Max": 80}}')
    with pytest.raises(ValueError, match=r"budgets.json: 'Min' is missing"):
        painter.draw("a red cube", scale_kv=path)


def test_a_long_prompt_is_cut_with_a_warning(painter):
    with pytest.warns(UserWarning, match="the model is told the first 12"):
        long = painter.draw("red cube " * 20)
    assert long.shape == (32, 32, 3)


def test_it_runs_in_bfloat16(infinity_folder):
    painter = unified.load(infinity_folder, device="cpu", dtype="bfloat16")
    assert painter.describe()["dtype"] == "bfloat16"
    assert next(painter.drawer.model.tokenizer.parameters()).dtype == torch.float32
    assert painter.draw("a red cube").shape == (32, 32, 3)


# Folders that are wrong -------------------------------------------------------------------------------------


@pytest.fixture
def copy(infinity_folder, tmp_path):
    return shutil.copytree(infinity_folder, tmp_path / "copy")


def refusal(folder):
    with pytest.raises(ValueError, match=r"\S") as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    return str(error.value)


def changed(folder, **fields):
    config = folders.read_config(folder)
    folders.write_config(folder, {**config, **fields})
    return refusal(folder)


@pytest.mark.parametrize("name", ["transformer", "tokenizer"])
def test_weights_that_are_missing(copy, name):
    (copy / f"{name}.safetensors").unlink()
    said = refusal(copy)
    assert f"no weights of the {name}: put {name}.safetensors" in said


def test_no_text_encoder(copy):
    shutil.rmtree(copy / "text_encoder")
    said = refusal(copy)
    assert "no text_encoder/: put a T5 encoder there" in said
    assert "flan-t5-xl" in said


def test_a_text_encoder_without_weights_or_of_another_width(copy):
    (copy / "text_encoder" / "model.safetensors").unlink()
    assert "text encoder does not load" in refusal(copy)
    shutil.rmtree(copy / "text_encoder")
    folders.text_encoder(copy / "text_encoder", 64)
    assert "its features have 64 channels, the transformer is told 128" in refusal(copy)


def test_a_text_encoder_by_the_hub_offline(copy, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "a/b" in changed(copy, text_encoder="a/b")


def test_configs_that_do_not_fit(copy):
    config = folders.read_config(copy)
    assert "unknown transformer '3b': released are 2b, 8b" in changed(copy, transformer="3b")
    assert "released are tokenizers of 14, 16" in changed(
        copy, transformer=config["transformer"], tokenizer=5
    )
    assert "lack base_ch" in changed(copy, tokenizer={})
    assert "unknown resolution '4K'" in changed(copy, tokenizer=config["tokenizer"], resolution="4K")
    assert "unknown key 'sides'" in changed(copy, resolution="1M", sides=3)
    folders.write_config(copy, {name: config[name] for name in ("model_type", "transformer")})
    assert "lacks 'tokenizer'" in refusal(copy)


def test_a_changed_shape_is_noticed(copy):
    config = folders.read_config(copy)
    assert "weights do not fit" in changed(copy, transformer={**config["transformer"], "depth": 4})
    said = changed(
        copy, transformer=config["transformer"], tokenizer={**config["tokenizer"], "codebook_dim": 8}
    )
    assert "weights do not fit" in said


def test_verbs_that_it_lacks(painter):
    for verb in ("ask", "edit", "solve", "imagine", "act", "chat"):
        with pytest.raises(ValueError, match="use draw"):
            getattr(painter, verb)("anything")
