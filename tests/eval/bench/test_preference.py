"""The bench of preference tuning trains both on the same ids."""

import pytest

pytest.importorskip("trl", reason="TRL comes with the extra `train`")

from unified.eval.bench import preference

from unified.layout.layout import Layout
from unified.stream.vocabulary import Vocabulary

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
SIZES |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512}
WORDS = {"text": 32, "visual": 16, "orders": ["next_scale"], "max_side": 4}


def test_rows_are_streams_with_a_drawing_each():
    words = Vocabulary(**preference.WORDS)
    row = preference.rows(words, 1)[0]
    layout = Layout.of([row["prompt_ids"] + row["chosen_ids"]], words)
    assert [group.plan.length for group in layout.writes] == [1 + 4 + 16 + 64 + 256]


def test_both_are_timed():
    found = preference.measure(1, preference.WARM + 1, SIZES, WORDS, (1, 2))
    assert found["ratio"] == pytest.approx(found["ours_pairs_per_second"] / found["plain_pairs_per_second"])
    assert found["plain_pairs_per_second"] > 0


def test_the_verdict_is_said():
    measured = {"ours_pairs_per_second": 2.0, "plain_pairs_per_second": 2.0, "ratio": 1.0}
    assert "reached" in preference.lines(measured)[0]
    assert "MISSED" in preference.lines({**measured, "ratio": 0.8})[0]
