"""Reconstruction of codes at the places of images: which, of what, and by how much."""

import pytest
import torch
import torch.nn.functional as F

from unified.objectives.visual_reconstruction import VisualReconstruction, VisualReconstructionConfig

PLACES = torch.tensor([[0, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0]]).bool()
CODES = torch.tensor([[0, 1], [1, 2], [2, 0], [1, 1], [2, 2], [0, 0]])
TABLE = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))


def head(states, codes):
    """Logits [P, 2, 3] that depend on the number of the position alone."""
    return states[:, :1, None] * TABLE


def states():
    return torch.arange(12.0).view(2, 6, 1).requires_grad_()


def test_every_place_says_its_own_codes():
    found = VisualReconstruction(head)(states(), PLACES, CODES)
    numbers = torch.tensor([1.0, 2, 3, 6, 7, 10])
    losses = F.cross_entropy(
        (numbers[:, None, None] * TABLE).flatten(0, 1), CODES.flatten(), reduction="none"
    )
    assert torch.allclose(found.loss, losses.mean())
    assert torch.allclose(found.by_depth, losses.view(6, 2).mean(0))


def test_with_a_shift_places_say_the_next_codes_of_their_own_image():
    found = VisualReconstruction(head, VisualReconstructionConfig(shift=1, weight=3.0))(
        states(), PLACES, CODES
    )
    numbers, targets = torch.tensor([1.0, 2, 6]), CODES[[1, 2, 4]]
    want = F.cross_entropy((numbers[:, None, None] * TABLE).flatten(0, 1), targets.flatten())
    assert torch.allclose(found.loss, 3 * want)


def test_a_share_of_the_places_is_drawn_anew_and_has_the_mean_of_all():
    objective = VisualReconstruction(head, VisualReconstructionConfig(share=0.5))
    rng = torch.Generator().manual_seed(0)
    losses = torch.stack([objective(states(), PLACES, CODES, rng).loss.detach() for _ in range(300)])
    assert losses.std() > 0
    whole = VisualReconstruction(head)(states(), PLACES, CODES).loss
    assert losses.mean().item() == pytest.approx(whole.item(), rel=0.1)


def test_gradients_reach_the_places_alone():
    given = states()
    VisualReconstruction(head)(given, PLACES, CODES).loss.backward()
    assert torch.equal(given.grad[..., 0] != 0, PLACES)


def test_a_batch_without_images_adds_nothing():
    given = states()
    found = VisualReconstruction(head)(given, torch.zeros_like(PLACES), CODES[:0])
    assert found.loss == 0
    found.loss.backward()
    assert given.grad.eq(0).all()


def test_accuracy_is_by_depth():
    def right(states, codes):
        logits = F.one_hot(codes, 3).float()
        logits[:, 1] = logits[:, 1].roll(1, dims=-1)
        return logits

    assert VisualReconstruction(right)(states(), PLACES, CODES).accuracy.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "words"), [({"shift": 2}, "shift must be"), ({"share": 0.0}, "share must")]
)
def test_options_and_numbers_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        VisualReconstructionConfig(**options)
    with pytest.raises(ValueError, match="6 places of images need as many codes, got 5"):
        VisualReconstruction(head)(states(), PLACES, CODES[:5])
