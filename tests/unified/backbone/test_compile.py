"""Compiled layers give the numbers of eager ones; a whole forward breaks in few places."""

import numpy as np
import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.backbone.decoder import one_layer
from unified.backbone.layer_pass import Pass
from unified.layout.attention import Index, Seen, attends
from unified.layout.layout import Layout
from unified.model import UnifiedConfig, UnifiedModel
from unified.stream.messages import Stream

BREAKS = 9  # of one teacher-forced forward, whose targets are picked by their number


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def steps(count=7):
    """Hidden states [2, count, 64], and the index and positions of text."""
    hidden = torch.randn(2, count, 64, generator=torch.Generator().manual_seed(0))
    label = torch.arange(count).expand(2, -1).contiguous()
    zero = torch.zeros_like(label)
    return hidden, Index(zero, zero, zero, label), label.expand(3, -1, -1).float()


def layer_of(model):
    def run(hidden, shared, over):
        return one_layer(model.library, 1, hidden, shared, over)

    return run, torch.compile(run, fullgraph=True, backend="aot_eager")


@torch.no_grad()
def test_a_layer_under_a_pass_is_one_graph(model):
    hidden, index, positions = steps()
    run = Pass(index, positions, seen=Seen(attends(index, index)[:, None]))
    shared = model.library.begin(hidden, run)
    eager, compiled = layer_of(model)
    torch.testing.assert_close(compiled(hidden, shared, run), eager(hidden, shared, run))


@torch.no_grad()
def test_a_layer_with_a_static_cache_is_one_graph(model):
    """Text token by token: what was compiled for one token serves the next, and writes the same keys."""
    states, caches = [], []
    for kind in (0, 1):
        hidden, index, positions = steps()
        layer, cache, found = layer_of(model)[kind], model.new_cache(2, 16, static=True), []
        for start, stop in ((0, 4), (4, 5), (5, 6), (6, 7)):
            span = slice(start, stop)
            part = index.map(lambda field, span=span: field[:, span])
            append = cache.append(part, np.array([stop - start] * 2))
            run = Pass(part, positions[:, :, span], append=append)
            shared = model.library.begin(hidden[:, span], run)
            found.append(layer(hidden[:, span], shared, run))
            append.commit()
        states.append(torch.cat(found, dim=1))
        caches.append(cache)
    torch.testing.assert_close(states[1], states[0])
    torch.testing.assert_close(caches[1].stores[1].both, caches[0].stores[1].both)
    assert caches[1].device_lengths.tolist() == [[0, 0], [7, 7]], "one layer ran"


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_a_whole_forward_breaks_only_where_targets_are_picked():
    torch.manual_seed(0)
    model = UnifiedModel(UnifiedConfig()).eval()
    stream = Stream(model.vocabulary, byte_tokenizer())
    drawn = {"type": "image", "codes": list(range(5)), "shapes": [[1, 1], [2, 2]], "order": "next_scale"}
    ids = torch.tensor([stream.encode([{"role": "assistant", "content": [drawn]}])])
    layout = Layout.of(ids, model.vocabulary)
    found = torch._dynamo.explain(model)(ids, labels=layout.labels(ids), layout=layout)
    assert found.graph_break_count <= BREAKS, [reason.reason for reason in found.break_reasons]
