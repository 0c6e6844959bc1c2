"""The layout that is timed is that of one more token of a longer text."""

import json
import time

import pytest
import torch
from unified.eval.bench import layout

from unified.apps.demo import random_model
from unified.layout.layout import Layout


def test_what_is_timed_goes_on_where_the_prompt_ended():
    words = random_model()[0].vocabulary
    whole = [words.begin, words.user, *range(20), words.end, words.assistant, 0]
    expected, found = Layout.of([whole] * 3, words), layout.next_token(3)()
    assert torch.equal(found.index.label, expected.index.label[:, -1:])
    assert torch.equal(found.index.sample, expected.index.sample[:, -1:])
    assert torch.equal(found.positions, expected.positions[:, :, -1:])


def test_64_rows_are_quick():
    """Under 2 ms (several times that here, for machines with other work)."""
    assert layout.measure([64], repeats=5)["64"] < 8


def test_milliseconds_are_those_of_one_call():
    assert 2 <= layout.milliseconds(lambda: time.sleep(0.002), repeats=2, calls=3) < 200


def test_it_prints_json_and_lines(capsys):
    assert layout.main(["--rows", "1", "2", "--repeats", "1", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["milliseconds"]) == {"1", "2"}
    assert "MISSED" in layout.lines({"64": 2.5})[0]
    assert "reached" in layout.lines({"64": 1.5})[0]
    with pytest.raises(SystemExit):
        layout.main(["--rows", "0"])
