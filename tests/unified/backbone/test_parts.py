"""Parts around layers: nothing at the start, something once trained, and the same in training, in sessions,
guided, and for rows of unequal lengths."""

from __future__ import annotations

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.backbone.decoder import run_layers
from unified.backbone.layer_pass import Pass
from unified.backbone.parts import PARTS, CrossAttention, CrossAttentionConfig, SourceKeys
from unified.backbone.parts.prefix import PrefixConfig
from unified.decoding.guidance import Constant
from unified.decoding.session import Session
from unified.layout.attention import Index, Seen, attends
from unified.layout.layout import IGNORED, Layout
from unified.stream.messages import Stream

OPTIONS = {
    "adapter": {"width": 64, "inner": 16, "layers": (0, 1)},
    "cross_attention": {"width": 64, "features": 8, "heads": 4, "layers": (0, 1)},
    "prefix": {"length": 5, "heads": 4, "kv_heads": 2, "head_width": 16, "layers": (0, 1)},
    "scale_memory": {"last": 2, "length": 5, "heads": 4, "kv_heads": 2, "head_width": 16, "layers": (0, 1)},
}
LENGTHS = (3, 1)  # features of each row


def features(count=2):
    """Features [count, 3, 8] of rows that have unequally many."""
    generator = torch.Generator().manual_seed(4)
    mask = torch.arange(3) < torch.tensor(LENGTHS)[:count, None]
    return torch.randn(2, 3, 8, generator=generator)[:count], mask


def made(name, trained=False):
    torch.manual_seed(1)
    module = PARTS[name](**OPTIONS[name])
    if trained:  # as if it were: nothing is zero any more
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return module


def plugged(module, row=None):
    """What passes are handed: for both rows of a batch, or for one alone."""
    if not hasattr(module, "reading"):
        return [module]
    given, mask = features()
    rows = slice(None) if row is None else slice(row, row + 1)
    return [module.reading(given[rows], mask[rows])]


def streams(model):
    """Two rows of unequal lengths, each with an image to be written."""
    stream = Stream(model.vocabulary, byte_tokenizer())
    drawn = {
        "type": "image",
        "codes": list(range(11)),
        "shapes": [[1, 1], [2, 2], [2, 3]],
        "order": "next_scale",
    }
    rows = []
    for said in ("a", "a longer one"):
        reply = [{"type": "text", "text": said}, drawn]
        rows.append(
            stream.encode([{"role": "user", "content": said}, {"role": "assistant", "content": reply}])
        )
    return rows


def image_of(model, codes, shapes):
    """A row with an image that is written."""
    drawn = {"type": "image", "codes": codes, "shapes": shapes, "order": "next_scale"}
    stream = Stream(model.vocabulary, byte_tokenizer())
    return torch.tensor([stream.encode([{"role": "assistant", "content": [drawn]}])])


def prompts(model):
    stream = Stream(model.vocabulary, byte_tokenizer())
    said = ("a", "a longer one")
    return [stream.encode([{"role": "user", "content": text}], prompt=True) for text in said]


def padded(model):
    rows = streams(model)
    most = max(map(len, rows))
    return torch.tensor([row + [model.vocabulary.pad] * (most - len(row)) for row in rows])


@pytest.fixture(params=sorted(PARTS))
def name(request):
    return request.param


def test_every_part_of_the_registry_is_tried():
    assert set(OPTIONS) == set(PARTS)


@torch.no_grad()
def test_at_its_start_a_part_changes_no_bit(model, name):
    ids = padded(model)
    plain, with_part = model(ids), model(ids, parts=plugged(made(name)))
    assert torch.equal(plain.hidden_states, with_part.hidden_states)
    assert torch.equal(plain.log_probs, with_part.log_probs)
    assert not torch.allclose(
        model(ids, parts=plugged(made(name, True))).log_probs, plain.log_probs, atol=1e-2
    )
    drawn = []
    for parts in ((), plugged(made(name))):
        session = Session(model, rows=2, parts=parts)
        session.feed(prompts(model))
        drawn.append(session.draw([1, 2], guidance=Constant(2.0)).log_probs)
    assert torch.equal(*drawn)


def test_a_part_learns_what_the_model_was_not_taught(model, name):
    """The model stays as it is; a part alone makes four samples likely. With features the samples differ in
    these alone, and no other part could tell them apart."""
    words = model.vocabulary
    torch.manual_seed(0)
    ids = torch.tensor([[words.begin, words.assistant, 5, 6, 7, words.end]] * 4)
    module = PARTS[name](**OPTIONS[name])
    if name == "cross_attention":
        ids[:, 2:5] = torch.randint(0, 40, (4, 3))
    labels = Layout.of(ids, words).labels(ids)
    if name == "scale_memory":  # of codes alone
        ids = image_of(model, [3] * 5, [[1, 1], [2, 2]])
        labels = torch.where(Layout.of(ids, words).step >= 0, ids, IGNORED)
    given = torch.eye(8)[:4, None]
    optimiser, losses = torch.optim.Adam(module.parameters(), lr=2e-2), []
    for _ in range(80):
        parts = [module.reading(given)] if name == "cross_attention" else [module]
        loss = model(ids, labels=labels, parts=parts, return_logits=False).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.zero_grad()
    assert losses[-1] < 0.1 * losses[0], (losses[0], losses[-1])


@torch.no_grad()
def test_sessions_and_batches_compute_what_one_pass_of_each_row_does(model, name):
    """Rows of unequal lengths, with unequally many features: text, an image, its steps; a batch of both."""
    module = made(name, trained=True)
    session, found = Session(model, rows=2, seed=3, parts=plugged(module)), []
    session.feed(prompts(model))
    list(session.text(max_tokens=3, draw=False, end=False))
    session.draw([1, 2, (2, 3)], hook=lambda step: found.append(step) or step)
    list(session.text(max_tokens=3, draw=False, end=False))
    predicted = torch.cat([step.logits[:, :, 0] for step in found], dim=1).log_softmax(-1)
    for row, ids in enumerate(session.streams):
        alone = model(torch.tensor([ids]), parts=plugged(module, row))
        torch.testing.assert_close(session.last[row], alone.hidden_states[0, -1], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(predicted[row], codes_of(model, alone), atol=1e-3, rtol=1e-3)
    batch = model(padded(model), parts=plugged(module)).log_probs
    for row, ids in enumerate(streams(model)):
        alone = model(torch.tensor([ids]), parts=plugged(module, row)).log_probs[0]
        torch.testing.assert_close(batch[row, : len(ids)], alone, atol=1e-3, rtol=1e-3)


def codes_of(model, output):
    """Log-probabilities [T, V] of the WRITE codes of a stream of one row."""
    start = model.vocabulary.visual_start
    logits = output.logits[0, :, start : start + model.vocabulary.visual]
    return logits[logits.isfinite().all(dim=-1)].log_softmax(dim=-1)


@torch.no_grad()
def test_null_rows_of_guidance_have_a_null_memory(model, name):
    """Guided steps are a pass with the part and its features, and one of the null stream with the part but
    without features."""
    module, scale = made(name, trained=True), 3.0
    session, found = Session(model, rows=2, seed=3, parts=plugged(module)), []
    session.feed(prompts(model))
    session.draw([1, 2, (2, 3)], guidance=Constant(scale), hook=lambda step: found.append(step) or step)
    predicted = torch.cat([step.logits[:, :, 0] for step in found], dim=1).log_softmax(-1)
    for row, ids in enumerate(session.streams):
        blind = torch.tensor([[*model.null_stream(prompts(model)[row]), *ids[len(prompts(model)[row]) :]]])
        whole = codes_of(model, model(torch.tensor([ids]), parts=plugged(module, row)))
        null = [] if name == "cross_attention" else [module]
        without = codes_of(model, model(blind, parts=null))
        want = (scale * whole - (scale - 1) * without).log_softmax(-1)
        torch.testing.assert_close(predicted[row], want, atol=3e-3, rtol=1e-3)


def test_features_of_another_number_of_rows_are_refused(model):
    module = CrossAttention(CrossAttentionConfig(**OPTIONS["cross_attention"]))
    with pytest.raises(ValueError, match="for 1 rows, but the batch has 2"):
        model(padded(model), parts=plugged(module, 0))
    with pytest.raises(ValueError, match=r"features must have shape \[rows, k, 8\], got \(2, 3, 9\)"):
        module.reading(torch.zeros(2, 3, 9))
    with pytest.raises(ValueError, match="4 heads are not a multiple of 3 kv_heads"):
        PrefixConfig(kv_heads=3)


# Keys of a source -------------------------------------------------------------------------------------------


def causal(start, count):
    label = torch.arange(start, start + count)[None].expand(2, -1).contiguous()
    zero = torch.zeros_like(label)
    return Index(zero, zero, zero, label), label.expand(3, -1, -1).float()


@torch.no_grad()
def test_keys_of_a_source_are_seen_as_if_the_source_stood_before(model):
    """Text after a source, in one pass, and the same with the source's keys as a memory of every layer; the
    second row sees fewer of them."""
    embeds = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    index, positions = causal(0, 9)
    index.sample[1, 2:4] = 7  # part of the source that the second row does not see
    seen = Seen(attends(index, index)[:, None])
    want = run_layers([model.library], embeds, Pass(index, positions, seen=seen))[0]
    source, places = index.map(lambda field: field[:, :4]), positions[:, :, :4]
    cache = model.new_cache(2)
    append = cache.append(source, torch.tensor([4, 4]).numpy())
    run_layers([model.library], embeds[:, :4], Pass(source, places, append=append))
    append.commit()
    pairs = {
        n: tuple(both[:, :4].transpose(1, 2) for both in store.both) for n, store in enumerate(cache.stores)
    }
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    index, positions = causal(4, 5)
    seen = Seen(attends(index, index)[:, None])
    run = Pass(index, positions, seen=seen, parts=[SourceKeys(pairs, mask)])
    got = run_layers([model.library], embeds[:, 4:], run)[0]
    torch.testing.assert_close(got, want[:, 4:], atol=1e-4, rtol=1e-4)


def source(row=None):
    generator = torch.Generator().manual_seed(2)
    rows = slice(None) if row is None else slice(row, row + 1)
    key, value = torch.randn(2, 2, 2, 3, 16, generator=generator)
    return SourceKeys({1: (key[rows], value[rows])}, (torch.arange(3) < torch.tensor(LENGTHS)[:, None])[rows])


@torch.no_grad()
def test_keys_of_a_source_in_sessions_guided_and_for_unequal_rows(model):
    session, scale, found = Session(model, rows=2, seed=3, parts=[source()]), 3.0, []
    session.feed(prompts(model))
    session.draw([1, 2, (2, 3)], guidance=Constant(scale), hook=lambda step: found.append(step) or step)
    list(session.text(max_tokens=3, draw=False, end=False))
    predicted = torch.cat([step.logits[:, :, 0] for step in found], dim=1).log_softmax(-1)
    for row, ids in enumerate(session.streams):
        blind = torch.tensor([[*model.null_stream(prompts(model)[row]), *ids[len(prompts(model)[row]) : -3]]])
        alone = model(torch.tensor([ids]), parts=[source(row)])
        torch.testing.assert_close(session.last[row], alone.hidden_states[0, -1], atol=1e-3, rtol=1e-3)
        want = (scale * codes_of(model, alone) - (scale - 1) * codes_of(model, model(blind))).log_softmax(-1)
        torch.testing.assert_close(predicted[row], want, atol=3e-3, rtol=1e-3)


@torch.no_grad()
def test_keys_that_no_row_sees_change_nothing(model):
    ids, nothing = padded(model), torch.zeros(2, 3, dtype=torch.bool)
    pairs = source().pairs
    unseen = model(ids, parts=[SourceKeys(pairs, nothing)]).log_probs
    torch.testing.assert_close(unseen, model(ids).log_probs, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="layer 1 needs keys and values of one shape"):
        SourceKeys({1: (pairs[1][0], pairs[1][1][..., :4])})


def test_keys_learn(model):
    """Keys and values as parameters: a prefix in the softmax of the stream, with packed attention too."""
    words = model.vocabulary
    ids = torch.tensor([[words.begin, words.assistant, 5, 6, 7, words.end]] * 2)
    labels = torch.where(ids >= 5, ids, IGNORED)
    pairs = {n: tuple(torch.nn.Parameter(0.1 * torch.randn(2, 2, 3, 16)) for _ in range(2)) for n in (0, 1)}
    optimiser, losses = torch.optim.Adam([x for pair in pairs.values() for x in pair], lr=0.1), []
    for _ in range(80):
        loss = model(ids, labels=labels, parts=[SourceKeys(pairs)], return_logits=False).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.zero_grad()
    assert losses[-1] < 0.3 * losses[0], (losses[0], losses[-1])
