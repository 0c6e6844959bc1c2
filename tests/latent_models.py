"""Tiny models with continuous heads, for tests."""

import torch
from unified.tokenizers.latent_grid import LatentGrid

from unified.config import UnifiedConfig
from unified.model import UnifiedModel
from unified.stream.vocabulary import DEFAULT_TAIL, Vocabulary

GRID = LatentGrid(4)
TOLD = {"channels": 4, "bits": GRID.bits, "reach": GRID.reach}
ORDERS = ("masked", "masked(steps=3)", "blocks", "blocks(side=8)")


def latent_vocabulary(orders=ORDERS, **options):
    tail = (*DEFAULT_TAIL, *(f"order:{name}" for name in orders))
    return Vocabulary(visual=GRID.codes, appended=tail, **options)


def latent_model(head, words=None, **options):
    """Of two layers, with weights that are not those of the start: every part has an effect."""
    torch.manual_seed(0)
    words = words or latent_vocabulary()
    told = {**TOLD, "inner": 16, "depth": 2, "steps": 4, **options}
    config = UnifiedConfig(vocabulary=words.to_dict(), head=head, head_options=told, initializer_range=0.2)
    model = UnifiedModel(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("head.") and not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model
