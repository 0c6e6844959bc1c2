"""Continuous values beside the ids of a session: read where their placeholders stand, with guidance too."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedConfig, UnifiedModel
from unified.stream.messages import Stream


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    readers = {"latents": {"kind": "linear", "width": 3}}
    return UnifiedModel(UnifiedConfig(readers=readers, initializer_range=0.2)).eval()


@pytest.fixture(scope="module")
def stream(model):
    return Stream(model.vocabulary, byte_tokenizer())


def asked(stream, latents, text="what"):
    image = {"type": "image", "latents": latents, "shapes": [[2, 2]]}
    return stream.encode_with_values(
        [{"role": "user", "content": [image, {"type": "text", "text": text}]}], prompt=True
    )


def latents(seed):
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))


def test_rows_say_what_each_says_alone_and_the_values_matter(model, stream):
    encoded = [asked(stream, latents(1), "a"), asked(stream, latents(2), "a longer one")]
    joined = {"latents": torch.cat([one.values["latents"] for one in encoded])}

    def talk(session):
        list(session.text(max_tokens=3, draw=False, end=False, sampler=Sampler(temperature=0)))
        session.draw([1, 2], guidance=Constant(2.0))
        return session.streams

    together = Session(model, rows=2, seed=5)
    together.feed([one.ids for one in encoded], values=joined)
    batch = talk(together)
    for number, one in enumerate(encoded):
        alone = Session(model, seed=5 + number)
        alone.feed(one.ids, values=one.values)
        assert talk(alone)[0] == batch[number]
    other = Session(model)
    other.feed(encoded[0].ids, values={"latents": latents(3)})
    assert not torch.allclose(other.last[0], model(*_one(encoded[0])).hidden_states[0, -1], atol=1e-3)


def _one(encoded):
    return (torch.tensor([encoded.ids]), None, None, encoded.values)


def test_a_session_reads_what_one_pass_reads(model, stream):
    encoded = asked(stream, latents(1))
    session = Session(model)
    session.feed(encoded.ids, values=encoded.values)
    torch.testing.assert_close(session.last[0], model(*_one(encoded)).hidden_states[0, -1], atol=1e-5, rtol=0)


def test_missing_or_superfluous_values_are_refused_and_nothing_is_fed(model, stream):
    encoded, session = asked(stream, latents(1)), Session(model)
    for values in (None, {"latents": torch.zeros(3, 3)}):
        with pytest.raises(ValueError, match="placeholders"):
            session.feed(encoded.ids, values=values)
        assert session.streams == [[]]
    session.feed(encoded.ids, values=encoded.values)
    assert session.streams == [encoded.ids]
