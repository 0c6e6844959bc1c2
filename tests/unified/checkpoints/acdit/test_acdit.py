"""ACDiT on tiny random modules: the mask pair by pair, clean blocks that no noise reaches, cached equals
uncached."""

import itertools

import pytest
import torch

from unified.checkpoints.acdit.network import ACDiT, ACDiTConfig, BlockLayout, load, skip_causal
from unified.checkpoints.acdit.sampling import BlockDecoding, sample
from unified.decoding.noise import PositionNoise
from unified.layout.attention import attends

LABELS = torch.tensor([1, 4])
VIDEO = BlockLayout(count=3, size=4, spatial=4, temporal=3, split=(2, 3, 3), square=False)


def tiny(layout=None, **sizes):
    torch.manual_seed(0)
    width = 32 if layout is None else 64
    model = ACDiT(ACDiTConfig(layout=layout or BlockLayout(), width=width, heads=width // 16, **sizes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def inputs(model, seed=1):
    generator, layout = torch.Generator().manual_seed(seed), model.config.layout
    shape = (2, layout.count * layout.size, model.config.channels)
    clean, noisy = (torch.randn(shape, generator=generator) for _ in range(2))
    return clean, noisy, torch.randint(1000, (2, layout.count), generator=generator)


def test_the_mask_is_skip_causal_for_every_pair_of_blocks():
    layout = BlockLayout(count=3, size=1, spatial=1, temporal=3, split=(2, 3, 3))
    index = skip_causal(layout)
    seen = attends(index, index)[0]
    for (q, query), (k, key) in itertools.product(enumerate("cccnnn"), repeat=2):
        i, j = q % 3, k % 3
        wanted = {"cc": j <= i, "nc": j < i, "nn": j == i, "cn": False}[query + key]
        assert bool(seen[q, k]) is wanted, (query, i, key, j)


@torch.no_grad()
@pytest.mark.parametrize("layout", [None, VIDEO])
def test_no_noise_and_no_time_reaches_a_clean_block(layout):
    model = tiny(layout)
    clean, noisy, steps = inputs(model)
    half = clean.shape[1]
    one = model.hidden(clean, noisy, model.condition(LABELS, steps))
    other = model.hidden(clean, noisy + 1, model.condition(LABELS, (steps + 500) % 1000))
    assert torch.equal(one[:, :half], other[:, :half])
    assert not torch.equal(one[:, half:], other[:, half:])


@torch.no_grad()
def test_a_noisy_block_sees_neither_its_clean_twin_nor_later_blocks():
    model, size = tiny(), 4
    clean, noisy, steps = inputs(model)
    condition, changed = model.condition(LABELS, steps), clean.clone()
    changed[:, 2 * size :] += 1
    one, other = model(clean, noisy, condition), model(changed, noisy, condition)
    assert torch.equal(one[:, : 3 * size], other[:, : 3 * size])
    assert not torch.equal(one[:, 3 * size :], other[:, 3 * size :])


@torch.no_grad()
@pytest.mark.parametrize("layout", [None, BlockLayout(square=False), VIDEO])
def test_cached_equals_uncached(layout):
    model = tiny(layout)
    clean, noisy, steps = inputs(model)
    layout, stores = model.config.layout, model.stores()
    whole = model(clean, noisy, model.condition(LABELS, steps))
    blocks = [part.split(layout.size, dim=1) for part in (clean, noisy, whole)]
    for block in range(layout.count):
        condition = model.condition(LABELS, steps[:, block : block + 1])
        before = blocks[0][block - 1] if block else None
        for given in (before, None):  # the second time from the cache alone
            found = model.step(blocks[1][block], condition, block, stores, given)
            torch.testing.assert_close(found, blocks[2][block], rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", ["dpm", "ddim"])
def test_a_row_is_the_same_alone_and_in_a_batch(solver):
    model, settings = tiny(), BlockDecoding(steps=3, scale=1.5, solver=solver)
    both = sample(model, LABELS, PositionNoise([3, 4]), settings)
    for row in range(2):
        alone = sample(model, LABELS[row : row + 1], PositionNoise([3 + row]), settings)
        torch.testing.assert_close(alone[0], both[row], rtol=1e-4, atol=1e-4)
    assert not torch.equal(both[0], sample(model, LABELS, PositionNoise([9, 4]), settings)[0])


def test_positions_go_by_cells_or_by_the_raster():
    assert BlockLayout().positions[:5].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]]
    assert BlockLayout(square=False).positions[:5].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0]]
    assert VIDEO.positions[3:6].tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 1]]


def test_weights_are_loaded_by_their_official_names():
    model = tiny(depth=3)
    state = model.state_dict()
    assert "y_embedder.embedding_table.weight" in state
    loaded = load(state, BlockLayout())
    assert loaded.config == model.config
    del state["blocks.0.attn.q_norm.weight"]
    with pytest.raises(ValueError, match="q_norm"):
        load(state, BlockLayout())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BlockLayout(count=3), "do not make"),
        (lambda: BlockLayout(split=(2, 3, 3)), "2 axes need as many shares"),
        (lambda: BlockDecoding(steps=0), "steps"),
        (lambda: BlockDecoding(solver="heun"), "dpm, ddim"),
        (lambda: ACDiT(ACDiTConfig(layout=VIDEO, heads=4)).rotation(), "not shared out"),
    ],
)
def test_bad_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
