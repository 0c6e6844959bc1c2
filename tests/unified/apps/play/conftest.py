"""Both worlds, small: the dream of a tiny random model."""

import pytest

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model
from unified.apps.play.worlds import Worlds


@pytest.fixture(scope="session")
def assistant():
    return Assistant(*random_model(), side=32)


@pytest.fixture
def make_worlds(assistant):
    def make(dream=True, **options):
        return Worlds(assistant if dream else None, (32, 32), **options)

    return make
