"""The weights that ship with the package: their size, their card, and that they know something."""

from itertools import islice

import pytest
from unified.eval.measurement import Run
from unified.eval.suites.questions import questions
from unified.eval.suites.world import world

from unified.assistant import load
from unified.pretrained import SHIPPED

pytestmark = pytest.mark.skipif(not (SHIPPED / "config.json").is_file(), reason="no weights are shipped")


@pytest.fixture(scope="module")
def run():
    return Run(assistant=load(), count=24, batch=24, split="validation")


def test_they_are_small(run):
    parts = (run.assistant.model, run.assistant.visual)
    assert sum(p.numel() for part in parts for p in part.parameters()) <= 25e6
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 50e6


def test_the_card_says_how_they_came_to_be():
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    for word in ("Data", "Recipe", "commit", "hardware, hours", "python -m unified.cli eval", "Limits"):
        assert word in card, word


def test_answers_need_the_picture(run):
    found = questions(run).numbers
    seen, blind = found["all"].value, found["blind"].value
    assert seen > blind


def test_an_imagined_frame_is_nearer_than_the_last_one(run):
    found = world(run).numbers["psnr_above_copy"]
    assert next(islice(found.values(), 1)) > 0
