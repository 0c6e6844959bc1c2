"""TokenUnify: against what its functions gave, and volumes, head and losses of other sizes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from unified.checkpoints.token_unify import network
from unified.checkpoints.token_unify.visibility import cut_volume, mask_volume, to_patches, to_volume

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import copied, differing, left_out, needs, refused, spoilt, without

INPUTS = ("volume", "out_low", "gt_low", "next_gt", "head.mlp_a", "head.mlp_b")
VOLUME = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6) + 100
PATCH = (1, 2, 3)


@needs("token_unify")
def test_every_published_output_is_recomputed():
    assert left_out("token_unify") == dict.fromkeys(INPUTS, "not compared: an input")


@needs("token_unify")
def test_changed_outputs_are_noticed(tmp_path):
    names = ("ar.seed1.fill1.input", "mask.seed0.fill0.ratio0.1", "next_pred", "joint.loss", "inference")
    folder = copied("token_unify", tmp_path, io=lambda stored: spoilt(stored, *names, by=1e-4))
    assert differing(folder) == set(names)


@needs("token_unify")
@pytest.mark.parametrize("name", INPUTS)
def test_a_missing_input_is_named(name, tmp_path, capsys):
    assert name in refused(copied("token_unify", tmp_path, io=lambda stored: stored.pop(name)), capsys)


@needs("token_unify")
def test_a_missing_or_unfit_patch_is_named(tmp_path, capsys):
    folder = copied("token_unify", tmp_path, config=lambda options: without(options, "patch"))
    assert "patch must be three sizes" in refused(folder, capsys)
    (tmp_path / "other").mkdir()
    folder = copied("token_unify", tmp_path / "other", config=lambda options: options.update(patch=[4, 5, 6]))
    assert "patches of (4, 5, 6) do not fill a volume" in refused(folder, capsys)


def test_patches_go_by_depth_rows_and_columns_and_back():
    patches = to_patches(VOLUME, PATCH)
    assert patches.shape == (8, 1, 2, 3)
    assert np.array_equal(patches[1], VOLUME[:1, :2, 3:])
    assert np.array_equal(patches[2], VOLUME[:1, 2:, :3])
    assert np.array_equal(patches[4], VOLUME[1:, :2, :3])
    assert np.array_equal(to_volume(patches, VOLUME.shape, PATCH), VOLUME)


@pytest.mark.parametrize("noise", [False, True])
def test_a_cut_shows_the_first_patches_alone(noise):
    counts = set()
    for seed in range(40):
        made = cut_volume(VOLUME, PATCH, np.random.RandomState(seed), noise=noise)
        shown, whole = to_patches(made.volume, PATCH), to_patches(VOLUME, PATCH)
        assert np.array_equal(shown[: made.count], whole[: made.count])
        assert (np.abs(shown[made.count :]) < 50).all()
        assert (shown[made.count :] == 0).all() != noise
        assert np.array_equal(made.following, whole[made.count])
        counts.add(made.count)
    assert counts == set(range(1, 8))
    with pytest.raises(ValueError, match="at least two patches"):
        cut_volume(VOLUME[:1, :2, :3], PATCH, np.random.RandomState(0))


def test_a_mask_hides_a_share_of_the_patches_and_other_ratios_are_drawn():
    def hidden(ratio, seed):
        made = mask_volume(VOLUME, PATCH, ratio, np.random.RandomState(seed))
        return int((to_patches(made, PATCH) == 0).all(axis=(1, 2, 3)).sum())

    assert {hidden(0.4, seed) for seed in range(20)} == {3}
    drawn = {hidden(0.1, seed) for seed in range(60)}
    assert drawn <= set(range(1, 7))
    assert len(drawn) >= 5
    noisy = mask_volume(VOLUME, PATCH, 0.4, np.random.RandomState(0), noise=True)
    assert (noisy != VOLUME).sum() == 18
    assert VOLUME.min() == 100  # what was given stays


def test_the_alternating_loss_alternates_only_if_it_is_told_the_epoch():
    told = [network.alternated(epoch) for epoch in (0, 99, 100, 199, 200)]
    assert told == ["next", "next", "all", "all", "next"]
    assert {network.alternated(None) for _ in range(3)} == {"next"}


def test_the_head_has_the_sizes_that_it_is_given():
    torch.manual_seed(0)
    head = network.NextPatch((2, 3, 5), cells=2 * 2, width=4)
    volume = torch.randn(3, 1, 8, 16, 16)
    found = head(volume)
    assert found.shape == (3, 1, 2, 3, 5)
    assert ((found > 0) & (found < 1)).all()
    again = network.load(head.state_dict(), (2, 3, 5))
    assert torch.equal(again(volume), found)
    with pytest.raises(ValueError, match="leaves 2 cells, the head takes 4"):
        head(volume[..., :8])
    with pytest.raises(ValueError, match=r"lack mlp\.weight"):
        network.load({"conv1.weight": torch.zeros(1)}, (2, 3, 5))


def test_losses_and_sums_over_cells():
    low = torch.randn(1, 1, 2, 1, 2)
    output = network.enlarged(low, (2, 3, 1)).requires_grad_()
    assert output.shape == (1, 1, 4, 3, 2)
    loss = network.loss_all(output, torch.zeros_like(output))
    assert torch.allclose(loss, low.sigmoid().square().mean())
    loss.backward()
    small = low.clone().requires_grad_()
    small.sigmoid().square().mean().backward()
    assert torch.allclose(network.summed(output.grad, (2, 3, 1)), small.grad)
    ones = torch.ones(2, 3)
    assert network.joint(output, ones, output.sigmoid(), 0 * ones).item() == pytest.approx(1)
