"""RAG-IGBench's parsing and scores on answers whose result is known."""

import numpy as np
import pytest
from unified.eval.metrics.interleaved import (
    SCORES,
    Embedders,
    EmptyText,
    Scored,
    Settings,
    averages,
    edit_score,
    kendall_score,
    rouge1,
    scaled,
    score_output,
)
from unified.eval.metrics.interleaved_markdown import answer_of, interleaved

HEAD = '{"answer": "'


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (HEAD + 'plain"}', "plain"),
        ("```json\n" + HEAD + 'fenced"}\n```', "fenced"),
        (HEAD + "no end", "no end"),
        (HEAD + 'two\nlines"}', "two<br>lines"),
        (HEAD + 'a "quoted" word"}', "a 'quoted' word"),
        (HEAD + r"an \"escaped\" word" + '"}', None),
        ('{"answer":"no blank"}', None),
        ("no brace at all", None),
        ("", None),
        (HEAD, None),
    ],
)
def test_output_is_repaired_or_invalid(output, answer):
    assert answer_of(output) == answer


def test_images_and_contexts_of_markdown():
    one = interleaved("ab ![x](IMG#1) cd<sup>[1](DOC#1)</sup> ![y](IMG#2)ef ![z](IMG#1)", context=4)
    assert one.text == "ab  cd ef"
    assert one.images == ["1", "2", "1"]
    assert list(one.contexts) == ["1", "2"]
    assert one.contexts["2"] == " cd ef !"
    cited = interleaved("a<sup>[![x](IMG#3)](DOC#1)</sup>")
    assert cited.images == ["3"]
    assert cited.contexts == {}


def test_lists_of_images():
    assert edit_score("12", "12") == 1
    assert edit_score("13", "12") == 0.5
    assert kendall_score("123", "123") == kendall_score("23", "1234") == 1
    assert kendall_score("321", "123") == kendall_score("", "12") == 0
    assert kendall_score("1", "1234") == 0.25
    assert kendall_score("11", "12") == 0  # an id that is repeated is not in order with itself
    assert kendall_score("124", "12") == pytest.approx(1 / 3)
    assert scaled(1.0, 2, 2) == pytest.approx(2 / 3)
    for score in (edit_score, kendall_score):
        with pytest.raises(ZeroDivisionError):
            score("", "")


def test_rouge_compares_sets_of_words():
    assert rouge1(["a", "a", "b"], ["a", "c"]) == pytest.approx(0.5)
    assert rouge1(["a.b"], ["a", "b"]) == pytest.approx(1)
    with pytest.raises(EmptyText, match="Hypothesis is empty"):
        rouge1(["."], ["a"])


def embedders():
    """Every image and every text are the same, but for the candidate with number 2."""
    return Embedders(
        words=str.split,
        text=lambda text: np.ones(2),
        image=lambda number: np.array([1.0, 1.0 if number != 1 else -1.0]),
        clip_text=lambda text: np.ones(2),
    )


def scored(markdown, reference="cups ![a](IMG#1) here", candidates=2, **settings):
    return score_output(HEAD + markdown + '"}', reference, candidates, embedders(), Settings(**settings))


def test_a_sample_is_scored_invalid_hallucinated_or_dropped():
    right = scored("cups ![a](IMG#1) here")
    assert right.status == "scored"
    assert [right.scores[name] for name in SCORES] == pytest.approx([1, 1, 2.5 / 3, 1, 1])
    wrong = scored("cups ![a](IMG#2) here")
    assert (wrong.scores["alignment_score"], wrong.scores["clip_score"]) == (0, 0)
    assert wrong.scores["edit_distance"] == wrong.scores["kendall_score"] == 0
    assert scored("cups ![a](IMG#3) here").status == "hallucination"
    assert scored('cups \\"').status == "invalid_format"
    assert scored("words", reference="words").error == "division by zero"
    assert scored("![a](IMG#1)").error == "Hypothesis is empty."


def test_aggregates_differ_by_rouge_and_coverage():
    one = Scored("scored", dict(zip(SCORES, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True)))
    found = averages([one, Scored("invalid_format", {})])
    assert found.paper == pytest.approx(0.3)
    assert found.released == pytest.approx((0.4 + 0.2 + 0.3 + 0.4 + 0.5) / 5)
    assert found.of_all == pytest.approx(0.15)
    with pytest.raises(ValueError, match="none of 1 answers"):
        averages([Scored("error", {})])
