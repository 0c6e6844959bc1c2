"""A tiny random model that shows in what it draws what it has read, and pictures to start from."""

import numpy as np
import pytest
import torch

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model


@pytest.fixture(scope="session")
def assistant():
    model, processor = random_model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "head" in name else 3)
    return Assistant(model, processor, side=32)


@pytest.fixture
def picture():
    def make(seed=0, side=32):
        return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)

    return make


@pytest.fixture
def walk():
    """Actions that differ from step to step."""
    keys = ("forward", "left", "jump", "attack", "back", "right", "use")
    return [{keys[k % 7]: 1, "camera": [0, (k * 5) % 13]} for k in range(24)]
