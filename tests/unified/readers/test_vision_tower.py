"""A vision tower by itself gives what the whole model's gives; the rest of the reader is in
tests/unified/vision_language/test_extension.py."""

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from unified.readers import READERS, VisionTowerReader
from unified.readers.vision_tower import VisionTowerConfig, image_values
from unified.stream.base_words import FEATURES, PLACES

WIDTH = 32


def whole():
    text = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 40}
    text["rope_parameters"] = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e4}
    vision = {
        "depth": 3,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
    }
    vision |= {"patch_size": 4, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    torch.manual_seed(0)
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision)).eval()


def inputs():
    """Two images of 2 x 4 and 4 x 4 patches: 2 and 4 features."""
    grid = torch.tensor([[1, 2, 4], [1, 4, 4]])
    pixels = torch.randn(24, 3 * 2 * 4 * 4, generator=torch.Generator().manual_seed(1))
    return {"pixel_values": pixels, "image_grid_thw": grid, "input_ids": torch.zeros(1, 1)}


@pytest.fixture(scope="module")
def models():
    model = whole()
    reader = VisionTowerReader(VisionTowerConfig(model=model.config.to_dict()), WIDTH).eval()
    state = {name: value for name, value in model.model.state_dict().items() if "language_model" not in name}
    reader.tower.load_state_dict(state)
    return model, reader


def test_features_and_places_are_those_of_the_whole_model(models):
    model, reader = models
    ours, theirs = reader.values(inputs()), image_values(model, inputs())
    assert ours.keys() == {FEATURES, PLACES}
    for name, value in theirs.items():
        assert torch.equal(ours[name], value)
    assert ours[FEATURES].shape == (6, 3 * WIDTH), "with features for two layers behind them"
    assert ours[PLACES].shape == (6, 5)
    assert torch.equal(reader(ours[FEATURES]), ours[FEATURES][:, :WIDTH])


def test_it_holds_no_decoder_and_is_frozen(models):
    _, reader = models
    names = [name for name, _ in reader.named_parameters()]
    assert names
    assert not any("language_model" in name or "embed_tokens" in name for name in names)
    assert not any(parameter.requires_grad for parameter in reader.parameters())


def test_without_images_there_is_nothing_to_read(models):
    assert models[1].values({"input_ids": torch.zeros(1, 1)}) == {}


def test_features_of_another_width_are_refused(models):
    with pytest.raises(ValueError, match="width 7, the vision tower's have 96"):
        models[1](torch.zeros(2, 7))


@pytest.mark.parametrize("model", [{}, {"model_type": "qwen2"}])
def test_it_needs_an_image_text_model(model):
    with pytest.raises(ValueError, match="needs the configuration of an image-text model"):
        READERS["vision_tower"][0](model=model)
