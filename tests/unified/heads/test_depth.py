"""A depth transformer: causal over depth, greedy decoding agrees with one pass, and it learns."""

import pytest
import torch

from unified.heads.depth import DepthHead, DepthHeadConfig

SIZES = {"hidden": 6, "width": 8, "heads": 2, "layers": 2, "depth": 3, "codes": 5}


def made(**options):
    torch.manual_seed(0)
    return DepthHead(DepthHeadConfig(**{**SIZES, **options}))


def states(count=7):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_depth_depends_on_the_codes_before_it():
    head = made()
    codes = torch.zeros(7, 3, dtype=torch.long)
    plain = head(states(), codes)
    assert plain.shape == (7, 3, 5)
    for depth in range(3):
        other = codes.clone()
        other[:, depth] = 4
        moved = (head(states(), other) - plain).abs().amax(dim=(0, 2)) > 1e-6
        assert moved.tolist() == [n > depth for n in range(3)]


@torch.no_grad()
def test_the_likeliest_codes_are_those_of_one_pass_over_them():
    head = made()
    codes = head.likeliest(states())
    assert torch.equal(head(states(), codes).argmax(dim=-1), codes)
    assert torch.equal(head.likeliest(states()[2:4]), codes[2:4])


def test_it_learns_codes_that_build_on_each_other():
    head, given = made(layers=1), states(8)
    codes = torch.randint(5, (8, 3), generator=torch.Generator().manual_seed(2))
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-2)
    for _ in range(50):
        loss = torch.nn.functional.cross_entropy(head(given, codes).flatten(0, 1), codes.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05
    assert torch.equal(head.likeliest(given), codes)


def test_one_code_a_place_is_a_classifier():
    head = made(depth=1)
    assert head(states(), torch.zeros(7, 1, dtype=torch.long)).shape == (7, 1, 5)


@pytest.mark.parametrize(
    ("options", "words"), [({"codes": 1}, "and codes 2"), ({"heads": 3}, "not a multiple of 3 heads")]
)
def test_sizes_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        made(**options)
    with pytest.raises(ValueError, match=r"7 states need codes \(7, 3\), got \(7, 2\)"):
        made()(states(), torch.zeros(7, 2, dtype=torch.long))
