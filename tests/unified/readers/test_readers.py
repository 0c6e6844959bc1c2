"""Readers: shapes, places, gradients, and one line for whatever does not fit."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.config import UnifiedConfig
from unified.readers import READERS, collate_values, make_readers, read_values, scatter_values
from unified.stream.messages import Stream
from unified.stream.vocabulary import Vocabulary

WORDS = Vocabulary(visual=16).extended("continuous:depth")
SHARED, DEPTH = WORDS.special["continuous"], WORDS.special["continuous:depth"]
WIDTH = 8
CONFIG = {"latents": {"kind": "linear", "width": 3}, "depth": {"kind": "codes"}}


@pytest.fixture
def readers():
    torch.manual_seed(0)
    return make_readers(CONFIG, WIDTH, torch.nn.Embedding(16, WIDTH))


def test_vectors_stand_where_their_placeholders_do_row_by_row():
    ids = torch.tensor([[1, SHARED, DEPTH, SHARED], [SHARED, 2, 3, 4]])
    embeds, vectors = torch.zeros(2, 4, 1), torch.tensor([[1.0], [2.0], [3.0]])
    placed = scatter_values(embeds, ids, WORDS, vectors)
    assert placed[..., 0].tolist() == [[0, 1, 0, 2], [3, 0, 0, 0]]
    assert not embeds.any(), "what is given is not changed"
    assert scatter_values(embeds, ids, WORDS, vectors[:1], "depth")[0, 2, 0] == 1


def test_a_batch_of_conversations_is_read_into_its_places(readers):
    stream = Stream(WORDS, byte_tokenizer())
    rows = []
    for number in range(2):
        latents = torch.rand(number + 1, 3)
        image = {"type": "image", "latents": latents, "shapes": [[1, number + 1]]}
        rows.append(stream.encode_with_values([{"role": "user", "content": [image]}]))
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [WORDS.pad] * (longest - len(row.ids)) for row in rows])
    values = collate_values([row.values for row in rows])
    embeds = torch.zeros(*ids.shape, WIDTH)
    together = read_values(readers, embeds, ids, WORDS, values)
    for number, row in enumerate(rows):
        alone = read_values(readers, embeds[number : number + 1], ids[number : number + 1], WORDS, row.values)
        torch.testing.assert_close(together[number], alone[0])
    assert (together.abs().sum(dim=-1) > 0).equal(ids == SHARED)


def test_linear_readers_learn_and_do_not_mind_the_scale(readers):
    reader = readers["latents"]
    values = torch.randn(2, 5, 3)
    torch.testing.assert_close(reader(values), reader(100 * values), atol=1e-3, rtol=1e-3)
    assert reader(values).shape == (2, 5, WIDTH)
    ids = torch.full((1, 5), SHARED)
    read_values(readers, torch.zeros(1, 5, WIDTH), ids, WORDS, {"latents": values[0]}).sum().backward()
    assert all(parameter.grad is not None for parameter in reader.parameters())


def test_codes_are_read_through_the_embedding_of_the_head():
    embedding = torch.nn.Embedding(16, WIDTH)
    reader = make_readers({"depth": {"kind": "codes"}}, WIDTH, embedding.forward)["depth"]
    codes = torch.tensor([3, 1])
    assert torch.equal(reader(codes), embedding(codes))
    assert not list(reader.parameters()), "it has none of its own"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"placeholders <\|continuous\|>, but there are no values"),
        ({"latents": torch.rand(3, 3)}, r"2 placeholders <\|continuous\|>, but there are 3 latents"),
        ({"latents": torch.rand(2, 4)}, "vectors of 4 channels, the reader takes 3"),
        ({"latents": torch.rand(2, 3), "sound": torch.rand(2, 3)}, "latents and sound share the placeholder"),
        ({"sound": torch.rand(2, 3)}, "no reader for sound: the readers .* are for latents, depth"),
        ({"latents": torch.rand(2, 3), "depth": torch.tensor([1])}, "0 placeholders .* there are 1 depth"),
    ],
)
def test_values_that_do_not_fit_a_batch_are_refused(readers, values, message):
    ids = torch.tensor([[SHARED, 1, SHARED]])
    with pytest.raises(ValueError, match=message) as refusal:
        read_values(readers, torch.zeros(1, 3, WIDTH), ids, WORDS, values)
    assert "\n" not in str(refusal.value)


def test_vectors_of_another_width_are_refused():
    ids = torch.tensor([[SHARED]])
    with pytest.raises(ValueError, match=r"continuous of width \(3,\) for embeddings of width 8"):
        scatter_values(torch.zeros(1, 1, WIDTH), ids, WORDS, torch.zeros(1, 3))


def test_readers_are_configured_and_saved(tmp_path):
    assert UnifiedConfig().readers == {}
    config = UnifiedConfig(readers={"latents": {"kind": "linear", "width": 16}})
    config.save_pretrained(tmp_path)
    assert UnifiedConfig.from_pretrained(tmp_path).readers == config.readers


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        ({"latents": {"kind": "tower"}}, f"latents has kind 'tower': choose one of {', '.join(READERS)}"),
        ({"latents": {"kind": "linear", "width": 0}}, "the reader of latents: width must be"),
        ({"latents": {"kind": "linear", "depth": 2}}, "the reader of latents: .*depth"),
    ],
)
def test_readers_that_cannot_be_built_are_refused(readers, message):
    with pytest.raises(ValueError, match=message):
        UnifiedConfig(readers=readers)
    old = {"orders": ["raster"]}
    with pytest.raises(ValueError, match="no placeholder for latents"):
        UnifiedConfig(vocabulary=old, readers={"latents": {"kind": "linear"}})
