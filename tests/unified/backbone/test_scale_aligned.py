"""A scale-aligned source against plain attention written out, and the same step by step and in one pass."""

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from unified.backbone.attention import sdpa
from unified.backbone.layer_pass import Pass
from unified.backbone.parts import ScaleAlignedSource
from unified.backbone.parts.scale_aligned import shrunk
from unified.checkpoints.next_scale import block_causal
from unified.decoding.session import Session
from unified.layout.attention import Seen, attends
from unified.layout.layout import Layout
from unified.orders import plan_for

SHAPES = ((1, 1), (2, 2), (3, 4))
SOURCE = (3, 4)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def source(rows=2, layers=2):
    return {n: (drawn(rows, 2, 12, 8, seed=n), drawn(rows, 2, 12, 8, seed=9 + n)) for n in range(layers)}


def forced(part, layer, rows=2):
    """Attention [R, L, H, D] of all slots of an image at once."""
    plan, index = plan_for("residual", SHAPES), block_causal(SHAPES)
    seen = Seen(attends(index, index)[:, None])
    index = index.map(lambda field: field.expand(rows, -1))
    run = Pass(index, torch.zeros(3, 1, 1), seen=seen, plan=plan, parts=() if part is None else [part])
    q, k, v = (drawn(rows, 2, plan.length, 8, seed=20 + n) for n in range(3))
    return run.attention(layer, q, k, v, 0.5), (q, k, v)


@pytest.mark.parametrize("layer", [0, 1])
def test_one_pass_is_attention_map_by_map_over_the_source_and_earlier_maps(layer):
    pairs = source()
    found, (q, k, v) = forced(ScaleAlignedSource(pairs, SOURCE), layer)
    start = 0
    for shape in SHAPES:
        stop = start + shape[0] * shape[1]
        key, value = pairs[layer]
        if layer == 0:
            key, value = (
                adaptive_avg_pool2d(x.transpose(2, 3).reshape(2, 16, 3, 4), shape)
                .reshape(2, 2, 8, -1)
                .transpose(2, 3)
                for x in (key, value)
            )
        keys, values = torch.cat([key, k[:, :, :stop]], dim=2), torch.cat([value, v[:, :, :stop]], dim=2)
        want = (q[:, :, start:stop] @ keys.mT * 0.5).softmax(-1) @ values
        assert torch.allclose(found[:, start:stop], want.transpose(1, 2), atol=1e-6)
        start = stop


def test_at_its_own_grid_the_source_is_left_as_it_is_and_means_stay():
    held = drawn(2, 3, 12, 4)
    assert shrunk(held, SOURCE, SOURCE) is held
    assert torch.allclose(shrunk(held, SOURCE, (1, 1))[:, :, 0], held.mean(dim=2), atol=1e-6)


def test_layers_without_keys_are_plain_attention_bit_for_bit():
    plain, _ = forced(None, 1)
    assert torch.equal(forced(ScaleAlignedSource({0: source()[0]}, SOURCE), 1)[0], plain)


def test_null_rows_see_the_source_of_their_conversation():
    pairs = source(rows=2)
    part = ScaleAlignedSource(pairs, SOURCE)
    index = block_causal(((2, 2),)).map(lambda field: field.expand(4, -1))
    run = Pass(index, torch.zeros(3, 1, 1), plan=plan_for("residual", SHAPES), step=1)
    memory = part.memory(1, run)
    assert memory.mask is None
    assert torch.equal(memory.keys, torch.cat([pairs[1][0]] * 2))


def test_text_of_a_pass_sees_no_source():
    index = block_causal(((2, 2),)).map(lambda field: field.expand(2, -1))
    kind = index.kind.clone()
    kind[:, 0] = 0
    index = type(index)(index.sample, index.segment, kind, index.label)
    run = Pass(index, torch.zeros(3, 1, 1), plan=plan_for("residual", SHAPES), step=1)
    mask = ScaleAlignedSource(source(), SOURCE).memory(0, run).mask
    assert mask.tolist() == [[[n > 0] * 4 for n in range(4)]] * 2


def test_what_it_cannot_place_is_refused():
    with pytest.raises(ValueError, match=r"a source of \(3, 5\)"):
        ScaleAlignedSource(source(), (3, 5))
    index = block_causal(((2, 2),))
    with pytest.raises(ValueError, match="with the plan of an image"):
        ScaleAlignedSource(source(), SOURCE).memory(0, Pass(index, torch.zeros(3, 1, 1), attend=sdpa))


def test_a_session_of_the_default_model_draws_with_a_source(model):
    """Written step by step, log-probabilities are those of one pass over the stream with the same source."""
    words = model.vocabulary
    heads, width = 2, 16
    pairs = {n: (drawn(1, heads, 12, width, seed=n), drawn(1, heads, 12, width, seed=n + 5)) for n in (0, 1)}
    session = Session(model, parts=[ScaleAlignedSource(pairs, SOURCE)])
    session.feed([words.begin, words.user, 7, words.end, words.assistant])
    made = session.draw(SHAPES)
    plain = Session(model)
    plain.feed([words.begin, words.user, 7, words.end, words.assistant])
    assert not torch.allclose(plain.draw(SHAPES).log_probs, made.log_probs)
    ids = torch.tensor([[*session.streams[0], words.end]])
    layout = Layout.of(ids, words)
    part = ScaleAlignedSource(pairs, SOURCE)
    with torch.no_grad():
        scored = model(ids, parts=[part]).log_probs[0]
    slots = layout.writes[0].slots()[0]
    assert torch.allclose(scored[slots], made.log_probs[0], atol=1e-4)
