"""Guidance by branches: one is itself, two are classifier-free guidance, scales of 1 are the first branch."""

import pytest
import torch

from unified.decoding.branch_guidance import branch_guided


def test_one_and_two_branches():
    own, null = torch.randn(2, 3, 4)
    assert torch.equal(branch_guided(own[None], ()), own)
    torch.testing.assert_close(branch_guided(torch.stack([own, null]), (2.5,)), null + 2.5 * (own - null))


def test_scales_of_one_are_the_first_branch_and_the_last_scale_is_of_the_last_pair():
    branches = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(branch_guided(branches, (1.0, 1.0)), branches[0])
    wanted = branches[2] + 1.6 * (branches[1] - branches[2]) + 4 * (branches[0] - branches[1])
    torch.testing.assert_close(branch_guided(branches, (4.0, 1.6)), wanted)


def test_another_number_of_scales_is_refused():
    with pytest.raises(ValueError, match="3 branches need 2 scales, got 1"):
        branch_guided(torch.zeros(3, 1), (2.0,))
