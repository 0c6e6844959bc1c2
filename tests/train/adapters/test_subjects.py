"""Training of subjects and styles: the loss falls, the base stays bit for bit."""

import numpy as np
import pytest
from unified.train.adapters.subjects import (
    StyleConfig,
    SubjectConfig,
    memories_for,
    train_style,
    train_subject,
)
from unified.train.adapters.tuning import TuningConfig

from unified.adapter_files import fingerprint, read_adapter
from unified.apps.adapters import Adapters
from unified.apps.demo import random_model
from unified.low_rank import LowRankConfig


@pytest.fixture(scope="module")
def tiny():
    return random_model()


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 256, (4, 4, 3)) for _ in range(2)]
    return [np.kron(tile, np.ones((8, 8, 1))).astype(np.uint8) for tile in tiles]


def test_a_subject_is_learnt_beside_the_base(tiny, pictures, tmp_path):
    model, processor = tiny
    before, path = fingerprint(model), tmp_path / "sks.safetensors"
    config = SubjectConfig(
        word="sks",
        prior=2,
        changes=LowRankConfig(rank=2),
        tuning=TuningConfig(steps=8, rows=2, learning_rate=1e-2),
    )
    losses = train_subject(model, processor, pictures, config, path, lambda _: None)
    assert sum(losses[-2:]) < sum(losses[:2]) - 0.5
    assert fingerprint(model) == before
    found = read_adapter(path)
    assert found.options == {"word": "sks", "class": "object", "rank": 2, "alpha": 16.0}
    changed = {name.split(".")[-3] for name in found.tensors}
    assert changed == set(config.changes.matrices)
    adapters = Adapters(model)
    adapters.load(path)
    assert fingerprint(model) != before
    adapters.remove("sks")
    assert fingerprint(model) == before


def test_style_and_content_are_learnt_in_turns(tiny, pictures, tmp_path):
    model, processor = tiny
    before, path = fingerprint(model), tmp_path / "style.safetensors"
    config = StyleConfig(word="sks", tuning=TuningConfig(steps=8, rows=1, learning_rate=1e-1))
    losses = train_style(model, processor, pictures[:1], config, path, lambda _: None)
    assert losses[6] < losses[0] - 0.1
    assert losses[7] < losses[1] - 0.05
    assert fingerprint(model) == before
    adapters = Adapters(model)
    adapters.load(path)
    assert [(part.config.first, part.config.last) for part in adapters.parts] == [(0, 3), (3, None)]


def test_what_cannot_be_learnt_is_told(tiny):
    model, _ = tiny
    for call, words in [
        (lambda: SubjectConfig(word=" "), "the word for the subject is empty"),
        (lambda: SubjectConfig(word="sks", prompts=("Draw it.",)), "a prompt has {} where"),
        (lambda: StyleConfig(word=""), "the word for the style is empty"),
        (lambda: memories_for(model, 1, StyleConfig(word="x")), "this model writes one"),
        (lambda: memories_for(model, 4, StyleConfig(word="x", layers=99)), "layers must be 1 to"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
