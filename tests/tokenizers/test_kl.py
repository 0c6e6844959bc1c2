"""The continuous tokenizer: its divergence, and training that goes on as if it had not been interrupted."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from unified.tokenizers.kl import KLConfig, KLTokenizer
from unified.tokenizers.networks import NetworkConfig
from unified.train.tokenizer import TokenizerTrainingConfig, train_tokenizer
from unified.train.tokenizer_state import Saving

TINY = NetworkConfig(latent=4, width=32, multipliers=(1,), blocks=0, groups=8, patch=4)


def tiny() -> KLTokenizer:
    torch.manual_seed(0)
    return KLTokenizer(KLConfig(network=TINY, weight=1.0))


def batches(first: int = 0):
    for step in range(first, 4):
        yield torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1


def test_the_loss_is_the_divergence_from_the_standard_normal():
    tokenizer, images = tiny(), next(batches())
    mean, spread = tokenizer.moments(images)
    expected = kl_divergence(Normal(mean, (0.5 * spread).exp()), Normal(0.0, 1.0)).mean()
    assert torch.allclose(tokenizer.training_pass(images, []).loss, expected)


def test_interrupted_training_ends_with_the_same_weights(tmp_path):
    def train(steps, saving):
        tokenizer = tiny()
        config = TokenizerTrainingConfig(steps=steps, restarts=None)
        train_tokenizer(
            tokenizer,
            batches(saving.step()),
            config,
            generator=torch.Generator().manual_seed(0),
            saving=saving,
        )
        return tokenizer.state_dict()

    whole = train(4, Saving(tmp_path / "whole", every=10))
    saving = Saving(tmp_path / "part", every=2)

    def stopping():
        yield from list(batches())[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(
            tiny(),
            stopping(),
            TokenizerTrainingConfig(steps=4, restarts=None),
            generator=torch.Generator().manual_seed(0),
            saving=saving,
        )
    again = train(4, Saving(tmp_path / "part", every=2))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_entropy_is_refused():
    with pytest.raises(ValueError, match="no entropy term"):
        tiny().training_pass(next(batches()), [], 0.1)
