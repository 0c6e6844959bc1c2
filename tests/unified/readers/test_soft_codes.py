"""Soft codes: the nearest code at a low temperature, all alike at a high one, gradients to all that takes
part."""

import pytest
import torch

from unified.readers import make_readers
from unified.readers.soft_codes import SoftCodeReaderConfig, soft_embedding, soft_weights


def test_a_low_temperature_is_the_nearest_code_and_a_high_one_the_mean():
    codebook, table, latents = torch.randn(7, 3), torch.randn(7, 5), torch.randn(2, 4, 3)
    nearest = torch.cdist(latents, codebook).argmin(dim=-1)
    torch.testing.assert_close(soft_embedding(latents, codebook, table, 1e-4), table[nearest])
    mean = table.mean(dim=0).expand(2, 4, -1)
    torch.testing.assert_close(soft_embedding(latents, codebook, table, 1e6), mean, rtol=1e-3, atol=1e-3)


def test_weights_are_a_softmax_of_squared_distances():
    codebook, latents = torch.randn(4, 2), torch.randn(3, 2)
    wanted = torch.softmax(-(latents[:, None] - codebook).square().sum(dim=-1) / 0.7, dim=-1)
    torch.testing.assert_close(soft_weights(latents, codebook, 0.7), wanted)
    with pytest.raises(ValueError, match="must be positive"):
        soft_weights(latents, codebook, 0.0)


def test_gradients_reach_latents_codebook_and_table():
    parts = [torch.randn(shape, requires_grad=True) for shape in ((3, 2), (4, 2), (4, 5))]
    for gradient in torch.autograd.grad(soft_embedding(*parts).square().sum(), parts):
        assert gradient.abs().min() > 0


def test_the_reader_is_made_by_its_name():
    table = torch.nn.Embedding(6, 5)
    readers = make_readers({"image": {"kind": "soft_codes", "codes": 6, "width": 2}}, 5, table)
    values, reader = torch.randn(3, 2), readers["image"]
    wanted = soft_embedding(values, reader.codebook.weight, table.weight)
    torch.testing.assert_close(reader(values), wanted)
    with pytest.raises(ValueError, match="temperature"):
        SoftCodeReaderConfig(temperature=0.0)
