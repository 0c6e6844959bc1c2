"""A grown model: new ids at the end, everything else bit for bit as before."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.apps.demo import random_model
from unified.decoding.session import Session
from unified.growth import grow_vocabulary
from unified.orders import ORDERS
from unified.pretrained import load_model, save_model
from unified.stream.messages import Stream
from unified.stream.vocabulary import Vocabulary

MESSAGES = [
    {"role": "user", "content": [{"type": "text", "text": "Draw."}, {"type": "action", "ids": [3] * 11}]},
    {
        "role": "assistant",
        "content": [
            {"type": "image", "codes": [1, 2, 3, 4, 5], "shapes": [[1, 1], [2, 2]], "order": "raster"}
        ],
    },
]
FORMS = [{"orders": list(ORDERS)}, {"orders": [], "appended": [f"order:{name}" for name in ORDERS]}]


@pytest.mark.parametrize("form", FORMS, ids=["former", "tail"])
def test_old_streams_keep_their_likelihood_bit_for_bit(make_model, form, monkeypatch):
    model = make_model(vocabulary=form)
    stream = Stream(model.vocabulary, byte_tokenizer())
    ids = torch.tensor([stream.encode(MESSAGES)])
    with torch.no_grad():
        before = model(ids)
    rows = model.get_input_embeddings().weight.detach().clone()
    words = model.vocabulary.extended("order:reversed", "continuous")
    assert grow_vocabulary(model, words) is model
    with torch.no_grad():
        after = model(ids)
    assert torch.equal(before.log_probs, after.log_probs)
    assert torch.equal(before.logits, after.logits)
    table = model.get_input_embeddings().weight
    assert torch.equal(table[: len(rows)], rows)
    assert (len(table), model.config.vocab_size) == (len(rows) + 2, words.size)
    assert table[len(rows) :].isfinite().all()
    monkeypatch.setitem(ORDERS, "reversed", ORDERS["raster"])
    session = Session(model)
    session.feed([words.begin, words.user, words.end, words.assistant])
    assert session.draw([2], order="reversed").codes.shape == (1, 4)


def test_a_grown_model_is_saved_and_loaded(tmp_path):
    model, processor = random_model(3)
    words = model.vocabulary.extended("order:spiral")
    ids = torch.tensor([processor.stream.encode(MESSAGES)])
    with torch.no_grad():
        before = model(ids).log_probs
    save_model(tmp_path, grow_vocabulary(model, words), processor.extended(words))
    again, other = load_model(tmp_path)
    assert again.vocabulary == other.vocabulary == words
    with torch.no_grad():
        assert torch.equal(again(ids).log_probs, before)


def test_a_vocabulary_with_other_ids_is_refused(make_model):
    model = make_model()
    with pytest.raises(ValueError, match="grows at its end only"):
        grow_vocabulary(model, Vocabulary(orders=("spiral", *ORDERS)))
    _, processor = random_model(3)
    with pytest.raises(ValueError, match="grows at its end only"):
        processor.extended(Vocabulary())
