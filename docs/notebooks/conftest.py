"""Tests run the notebooks with a few steps of training."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("NOTEBOOK_STEPS", "12")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Notebooks are among the tests that take long."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)
