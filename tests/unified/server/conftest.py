"""A tiny random model."""

import pytest

from unified.apps.demo import random_model


@pytest.fixture(scope="session")
def parts():
    """Model and processor."""
    return random_model()


@pytest.fixture(scope="session")
def shapes(parts):
    return parts[1].schedule((4, 4))
