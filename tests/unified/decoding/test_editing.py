"""Maps that are given while an image is written."""

import pytest
import torch

from unified.decoding.editing import give_maps
from unified.decoding.session import Session
from unified.layout.layout import Layout


def test_maps_that_are_given_stay_and_later_ones_follow_them(model):
    """Likelihoods of later maps are those of the stream that was written; those of given maps are 0."""
    words = model.vocabulary
    session = Session(model)
    session.feed([words.begin, words.user, 7, words.end, words.assistant])
    given = [torch.tensor([[3]]), torch.tensor([[1, 2, 3, 4]])]
    made = session.draw([1, 2, 3], hook=give_maps(given))
    assert torch.equal(made.codes[:, :5], torch.cat(given, dim=1))
    assert made.log_probs[:, :5].eq(0).all()
    ids = torch.tensor([[*session.streams[0], words.end]])
    slots = Layout.of(ids, words).writes[0].slots()[0, 5:]
    with torch.no_grad():
        assert torch.allclose(model(ids).log_probs[0, slots], made.log_probs[0, 5:], atol=1e-4)
    with pytest.raises(ValueError, match=r"map 1 needs codes \(1, 4\), got \(1, 3\)"):
        session.draw([1, 2], hook=give_maps([given[0], torch.zeros(1, 3)]))
