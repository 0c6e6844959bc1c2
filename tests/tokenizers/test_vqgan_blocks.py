"""Our encoder and decoder against the layers of `transformers` (Janus), of which the weights are the same."""

import pytest
import torch
from unified.tokenizers.networks import Decoder, Encoder, NetworkConfig

CONFIGS = [
    NetworkConfig(latent=8, width=32, multipliers=(1, 2), blocks=1),
    NetworkConfig(latent=4, width=32, multipliers=(1, 1, 2), blocks=2),
    NetworkConfig(latent=8, width=64, multipliers=(1,), blocks=1),
]


def library(config: NetworkConfig, side: str):
    from transformers.models.janus import modeling_janus as janus
    from transformers.models.janus.configuration_janus import JanusVQVAEConfig

    settings = JanusVQVAEConfig(
        latent_channels=config.latent,
        double_latent=False,
        base_channels=config.width,
        channel_multiplier=list(config.multipliers),
        num_res_blocks=config.blocks,
    )
    kinds = {"encoder": janus.JanusVQVAEEncoder, "decoder": janus.JanusVQVAEDecoder}
    return kinds[side](settings)


@pytest.mark.parametrize("config", CONFIGS, ids=["two levels", "three levels", "one level"])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("gradient", [False, True])
def test_what_the_library_computes(config, side, gradient):
    torch.manual_seed(0)
    ours = {"encoder": Encoder, "decoder": Decoder}[side](config)
    theirs = library(config, side)
    theirs.load_state_dict(ours.state_dict())  # the same names, all of them
    given = torch.randn(2, 3, 16, 12) if side == "encoder" else torch.randn(2, config.latent, 4, 3)
    with torch.set_grad_enabled(gradient):
        torch.testing.assert_close(ours(given), theirs(given), atol=1e-5, rtol=1e-4)


def test_the_same_seed_begins_with_the_weights_of_the_library():
    for side, kind in (("encoder", Encoder), ("decoder", Decoder)):
        torch.manual_seed(3)
        ours = kind(CONFIGS[0]).state_dict()
        torch.manual_seed(3)
        theirs = library(CONFIGS[0], side).state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
