"""The arithmetic of a batch."""

import torch
from unified.train.throughput import ModelFlops, Work, sample_lengths

from unified.layout.layout import IGNORED, Layout, pack
from unified.model import UnifiedConfig, UnifiedModel


def test_samples_are_counted_in_positions_without_padding():
    assert sample_lengths(torch.tensor([[0, 0, 0, 1, -1], [-1, 0, 0, 0, 0]])).tolist() == [3, 1, 4]


def test_packing_and_padding_cost_nothing_and_folding_saves():
    found = {}
    for merge in (0, 2):
        model = UnifiedModel(UnifiedConfig(vocabulary={"merge": merge}))
        words = model.vocabulary
        image = words.read_segment(list(range(16)), [(4, 4)])
        sample = [words.begin, words.user, *image, words.end, words.assistant, 5, words.end]
        flops = ModelFlops(model)

        def of(samples, length, words=words, flops=flops):
            ids = pack(samples, length, words)
            layout = Layout.of(ids, words)
            labels = layout.labels(ids)
            assert (labels != IGNORED).any()
            return flops(Work.of(layout, labels))

        found[merge] = of([sample], len(sample))
        assert of([sample, sample], 2 * len(sample) + 9) == 2 * found[merge]
        body = sum(
            layer.weight.numel() for layer in model.backbone.modules() if hasattr(layer, "in_features")
        )
        assert found[merge] > 6 * body * (len(sample) - (12 if merge else 0))
    assert found[2] < found[0]
