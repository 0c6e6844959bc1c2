"""Grammars: what is said can be parsed, and a grammar that allows everything changes nothing."""

import pytest
import torch

from unified.config import UnifiedConfig, text_decoder
from unified.decoding.grammar import Automaton, in_turn, repeated
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel
from unified.stream.vocabulary import Vocabulary

TEXT = 12


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    words = Vocabulary(text=TEXT, visual=8, action=0, max_side=4, orders=("raster",))
    backbone = text_decoder(width=32, layers=2, heads=2, kv_heads=2)
    return UnifiedModel(UnifiedConfig(vocabulary=words.to_dict(), backbone=backbone)).eval()


def said(model, grammar, rows=3, strategy=None, **options):
    words = model.vocabulary
    session = Session(model, rows=rows, seed=4, strategy=strategy)
    session.feed([[words.begin, words.user, n, words.end, words.assistant] for n in range(rows)])
    lines = list(session.text(grammar=grammar, draw=False, **options))
    return [[line[n] for line in lines if line[n] is not None] for n in range(rows)], session


def test_ids_come_in_turn(model):
    slots = [range(0, 3), range(3, 6), [7]]
    found, session = said(model, in_turn(slots, model.vocabulary.end))
    for line in found:
        assert len(line) == 4
        assert all(token in slot for token, slot in zip(line, slots, strict=False))
        assert line[-1] == model.vocabulary.end
    assert session.stopped() == ["end"] * 3


def test_repetitions_end_between_two(model):
    end = model.vocabulary.end
    grammar = repeated([range(0, 3), range(3, 6)], 3, end)
    lengths = set()
    for temperature in (0.0, 1.0, 3.0):
        for line in said(model, grammar, rows=8, sampler=Sampler(temperature=temperature))[0]:
            assert line[-1] == end
            assert len(line) in (3, 5, 7)
            assert all(token // 3 == place % 2 for place, token in enumerate(line[:-1]))
            lengths.add(len(line))
    assert len(lengths) > 1


def test_a_grammar_that_allows_everything_changes_nothing(model):
    every = [*range(TEXT), model.vocabulary.end, model.vocabulary.part]
    free = Automaton([dict.fromkeys(every, 0)])
    options = {"max_tokens": 9, "sampler": Sampler(temperature=1.5)}
    found, session = said(model, free, **options)
    wanted, other = said(model, None, **options)
    assert found == wanted
    assert torch.equal(session.last, other.last)


def test_rows_are_what_they_are_alone(model):
    grammar = repeated([range(0, 3), range(3, 6)], 3, model.vocabulary.end)
    both = said(model, grammar, rows=2)[0]
    assert said(model, grammar, rows=1)[0][0] == both[0]


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ValueError, match="state 3 is reached"):
        Automaton([{1: 3}])
    with pytest.raises(ValueError, match="at least one id"):
        in_turn([[1], []])
    with pytest.raises(ValueError, match="ends the repetitions"):
        repeated([[1, 2]], 2, 2)
    with pytest.raises(ValueError, match="text is over"):
        said(model, in_turn([[1]]), max_tokens=3)
    with pytest.raises(ValueError, match="only ids that may not come"):
        said(model, in_turn([[model.vocabulary.begin]]))
    with pytest.raises(ValueError, match="one_pass"):
        said(model, in_turn([[n] for n in (1, 2) * 6]), strategy="speculative", max_tokens=12)
