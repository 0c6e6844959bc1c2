"""FLASH's drafter as released."""

import sys
from pathlib import Path

import pytest
import torch

from unified.checkpoints.flash.loss import flash_loss
from unified.checkpoints.flash.network import FlashConfig, FlashDrafter, aligned, shortened
from unified.checkpoints.flash.verify import image_span
from unified.heads.latent_pooling import LatentPooling

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import changed, compared, copied, needs, refused

CHANGED = {
    "align.out_pad7": 1.0,
    "compress.draft_sequence": 1e-3,
    "compress.weights": 1e-3,
    "loss.grad.layers.ar_proj.2.weight": 1e-3,
    "loss.ploss": 1e-3,
    "plain.k_rot": 1e-3,
    "plain.output": 1e-3,
}


@needs("flash")
def test_every_tensor_agrees_and_changed_ones_do_not(tmp_path, capsys):
    assert all(line.endswith("an input") for line in compared("flash", tmp_path, capsys, CHANGED))


@needs("flash")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": None}, "lacks k"),
        ({"k": 2}, "ar_proj.2"),
        ({"heads": 5}, "sizes must be"),
        ({"image_token_id": 39}, "image token 39"),
    ],
)
def test_what_does_not_fit_is_one_line(change, words, tmp_path, capsys):
    assert words in refused(
        copied("flash", tmp_path, config=lambda options: changed(options, change)), capsys
    )


# Of any size ------------------------------------------------------------------------------------------------


@pytest.fixture
def drafter():
    torch.manual_seed(0)
    sizes = {"codes": 13, "width": 12, "heads": 3, "groups": 2, "ahead": 4, "latents": 2}
    return FlashDrafter(FlashConfig(**sizes)).eval()


@torch.no_grad()
def test_the_head_is_causal_and_sums_over_groups(drafter):
    x = torch.randn(2, 6, 12)
    head = drafter.layers
    whole = head(x)
    assert whole.shape == (2, 6, 4, 12)
    torch.testing.assert_close(head(x[:, :4]), whole[:, :4], atol=1e-5, rtol=0)
    q, k = head.rotated(x)
    v = head.v_proj(x).view(2, 6, 2, 4).transpose(1, 2)
    mask = torch.full((6, 6), float("-inf")).triu(1)
    gathered = []
    for one in q.unbind(1):
        parts = [
            (one @ keys.transpose(1, 2) / 2 + mask).softmax(-1) @ values
            for keys, values in zip(k.unbind(1), v.unbind(1), strict=True)
        ]
        gathered.append(sum(parts))
    want = head.ar_proj(head.o_proj(torch.cat(gathered, dim=-1))).view(2, 6, 4, 12)
    torch.testing.assert_close(whole, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("length", "ahead"), [(5, 3), (2, 4), (1, 1)])
def test_predictions_stand_where_they_are_about(length, ahead):
    predicted = torch.arange(length * ahead).float().view(1, length, ahead, 1) + 1
    found = aligned(predicted, -7.0)
    assert found.shape == (1, length * ahead, 1)
    for offset in range(ahead):
        for place in range(length):
            want = predicted[0, place - offset, offset] if place >= offset else -7.0
            assert found[0, offset * length + place] == want


def test_pooling_is_a_mean_by_learned_weights():
    torch.manual_seed(1)
    pooling, hidden = LatentPooling(3, 5), torch.randn(2, 7, 5)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    weights = pooling.weights(hidden, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
    assert not weights[1, :, 4:].any()
    torch.testing.assert_close(pooling(hidden, mask)[1], pooling(hidden[1:, :4])[0])
    same = hidden[:, :1].expand(-1, 7, -1)
    torch.testing.assert_close(pooling(same), same[:, :3])
    with pytest.raises(ValueError, match="at least one"):
        LatentPooling(0, 5)


@torch.no_grad()
def test_the_released_sequence_loses_the_end_and_the_papers_does_not(drafter):
    ids = torch.tensor([[1, 2, 12, 12, 12, 12, 3, 4, 5]])
    hidden = torch.randn(1, 9, 12)
    span = image_span(ids, 12)
    released = drafter.compressed(ids, hidden, span)
    inputs = drafter.inputs(ids, hidden)
    assert released.shape == (1, 7, 12)
    assert torch.equal(released[:, :2], hidden[:, :2])
    assert not released[:, 4:6].any()
    assert torch.equal(released[:, 6], inputs[:, 6])
    latents = drafter.compression(hidden[:, span])
    assert torch.equal(released[:, 2:4], latents)
    moved = shortened(inputs[:, :2], latents, inputs[:, 6:])
    assert moved.shape == (1, 7, 12)
    assert torch.equal(moved[:, 4:], inputs[:, 6:])


def test_the_loss_is_that_of_the_formula():
    rng = torch.Generator().manual_seed(2)
    output, target = torch.randn(1, 6, 4, generator=rng), torch.randn(1, 3, 4, generator=rng)
    head, mask = torch.randn(5, 4, generator=rng), torch.tensor([[1.0, 0.0, 1.0]])
    found = flash_loss(output, target, head, mask)
    features = tokens = 0.0
    for copy in range(2):
        for place in (0, 2):
            own, wanted = output[0, 3 * copy + place], target[0, place]
            gap = (own - wanted).abs()
            features += float(torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean())
            tokens -= float(((head @ wanted).softmax(0) * (head @ own).log_softmax(0)).sum())
    assert float(found.total) == pytest.approx((features + 0.1 * tokens) / 4, rel=1e-4)


@pytest.mark.parametrize("ids", [[[1, 2]], [[9, 1, 9]], [[9, 1], [1, 9]]])
def test_images_that_do_not_line_up_are_refused(ids):
    with pytest.raises(ValueError, match="same places"):
        image_span(torch.tensor(ids), 9)
