"""Models of five layers, so that depths differ: our own, and VAR's and FlexVAR's transformers."""

import pytest
import torch
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.text import byte_tokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer

from unified.checkpoints.adaln import TransformerConfig
from unified.checkpoints.flexvar import FlexVAR
from unified.checkpoints.var import VAR
from unified.config import text_decoder
from unified.stream.messages import Stream

LAYERS = 5


@pytest.fixture(scope="package")
def model(make_model):
    return make_model(backbone=text_decoder(width=32, layers=LAYERS, heads=2, kv_heads=1))


@pytest.fixture(scope="package")
def stream(model):
    return Stream(model.vocabulary, byte_tokenizer())


def published(kind, **options):
    shapes = ((1, 1), (2, 2), (3, 3))
    config = TransformerConfig(codes=16, code_width=8, width=32, depth=LAYERS, shapes=shapes, **options)
    network = NetworkConfig(latent=8, width=32, multipliers=(1, 1), blocks=0)
    torch.manual_seed(0)
    if kind == "var":
        tokenizer = ResidualVQTokenizer(ResidualVQConfig(codes=16, network=network, sizes=(1, 2, 3)))
        model = VAR(config, tokenizer.eval())
    else:
        model = FlexVAR(config, VQTokenizer(VQConfig(codes=16, dim=8, encoder=network)).eval())
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model.eval()


@pytest.fixture(scope="package")
def make_published():
    return published
