"""The rotation trick: values are codes, gradients keep their angle to the vector and their scaled length."""

import torch
from unified.tokenizers.rotation import rotated


def pair(seed, size=4):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(3, size, generator=rng).requires_grad_(), torch.randn(3, size, generator=rng)


def test_the_value_is_the_code():
    vectors, codes = pair(0)
    assert rotated(vectors, codes).allclose(codes, atol=1e-5)


def test_gradients_are_rotated_and_scaled_not_copied():
    vectors, codes = pair(1)
    upstream = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    (found,) = torch.autograd.grad((rotated(vectors, codes) * upstream).sum(), vectors)
    scale = codes.norm(dim=1) / vectors.norm(dim=1)
    assert found.norm(dim=1).allclose(scale * upstream.norm(dim=1), atol=1e-4)
    angle = torch.cosine_similarity(upstream, codes)
    assert torch.cosine_similarity(found, vectors).allclose(angle, atol=1e-4)
    assert not found.allclose(upstream, atol=1e-2)


def test_a_vector_on_its_code_passes_gradients_as_they_are():
    vectors, _ = pair(3)
    upstream = torch.ones(3, 4)
    (found,) = torch.autograd.grad((rotated(vectors, vectors.detach()) * upstream).sum(), vectors)
    assert found.allclose(upstream, atol=1e-4)
