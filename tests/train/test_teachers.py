"""Teachers by name: a vision transformer of transformers on this machine, or a function of one's own."""

import json

import pytest
import torch
from unified.train.teachers import channels_of, teacher_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny DINOv2 with random weights."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    path = tmp_path_factory.mktemp("dino")
    Dinov2Model(Dinov2Config(**sizes, image_size=28, patch_size=14)).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    )
    return path


def test_a_vision_transformer_gives_its_patches(folder):
    from transformers import AutoModel

    teacher = teacher_of(f"transformers:{folder}")
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = teacher(images)
    assert found.shape == (2, 8, 2, 2)
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(pixel_values=images).last_hidden_state
    assert torch.allclose(found, states[:, 1:].transpose(1, 2).unflatten(2, (2, 2)), atol=1e-4)
    assert channels_of(teacher, torch.zeros(1, 3, 64, 64)) == 8


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dino", "transformers:FOLDER or module:function"),
        ("transformers:/nowhere", "features are not downloaded"),
        ("math:nothing", "no attribute"),
        ("math:pi", "no function"),
    ],
)
def test_other_names_are_refused(name, reason):
    with pytest.raises(ValueError, match=reason):
        teacher_of(name)


def test_features_must_be_maps():
    with pytest.raises(ValueError, match=r"maps \[B, C, h, w\], got \(2, 3\)"):
        channels_of(lambda images: torch.zeros(2, 3), torch.zeros(2, 3, 8, 8))
