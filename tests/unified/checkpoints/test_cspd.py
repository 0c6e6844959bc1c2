"""Continuous speculative decoding as released."""

import sys
from pathlib import Path

import pytest
import torch

from unified.checkpoints.cspd.rule import Trajectory, ratio, trajectory, verify
from unified.checkpoints.cspd.sampling import SpeculativeMasked, sample
from unified.checkpoints.mar.network import MAR, MARConfig
from unified.decoding.strategies.gaussian import log_ratio
from unified.heads.denoiser import Denoiser
from unified.heads.diffusion import DiffusionDistribution, Term
from unified.heads.diffusion_schedule import cosine
from unified.heads.distribution import Gaussian

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import compared, copied, needs, refused, without

CHANGED = {
    "rule.ratio.tau4": 0.1,
    "rule.accepted.tau1": 1,
    "rule.trials.tau42": 1,
    "rule.residual_keep_of_first_proposal": 0.1,
    "traj.cfg.target.logsum": 0.1,
    "run.hard_cfg.tokens": 0.1,
    "run.target.z_half": 0.1,
}


@needs("cspd")
def test_every_tensor_agrees_and_changed_ones_do_not(tmp_path, capsys):
    assert all(line.endswith("an input") for line in compared("cspd", tmp_path, capsys, CHANGED))


@needs("cspd")
def test_a_missing_option_is_one_line(tmp_path, capsys):
    folder = copied("cspd", tmp_path, config=lambda options: without(options, "gamma"))
    assert "lacks gamma" in refused(folder, capsys)


@needs("cspd")
def test_missing_noise_is_one_line(tmp_path, capsys):
    folder = copied("cspd", tmp_path, io=lambda stored: stored.pop("run.noise"))
    assert "no 'run.noise'" in refused(folder, capsys)


# Of any size ------------------------------------------------------------------------------------------------


def law(seed, count=6, channels=4):
    rng = torch.Generator().manual_seed(seed)
    mean, spread, log_sum = torch.randn(3, count, channels, generator=rng)
    return Trajectory(mean, mean, (0.3 * spread).exp(), 0.1 * log_sum)


def test_without_earlier_steps_the_ratio_is_that_of_the_densities():
    p, q = law(0), law(1)
    p, q = (Trajectory(one.out, one.mean, one.std, torch.zeros_like(one.std)) for one in (p, q))
    x = torch.randn(6, 4)
    torch.testing.assert_close(ratio(x, p, q, 1.0), p.pdf(x) / q.pdf(x), atol=0, rtol=1e-4)
    exact = log_ratio(x, *(Gaussian(one.mean, one.std.log()) for one in (p, q))).exp().float()
    torch.testing.assert_close(ratio(x, p, q, 1.0), exact, atol=0, rtol=1e-4)


def test_what_no_proposal_is_kept_for_is_0():
    p, q = law(0), law(1)
    x = p.mean + 9.0
    nothing = ((torch.zeros(6, 4), torch.ones(6)) for _ in range(100))
    found = verify(x, p, q, 1.0, torch.full((6,), 1e30), nothing)
    assert found.rounds == 100
    assert not found.values.any()


def test_a_trajectory_ends_where_the_head_draws():
    torch.manual_seed(0)
    head = Denoiser(5, 3, 8, 1)
    torch.nn.init.normal_(head.outputs.weight, std=0.2)
    schedule = cosine(1000, (3, 2))
    found = DiffusionDistribution(head, schedule, (Term(torch.randn(4, 5), 1.0, 1.0),))
    normal = torch.randn(4, 5, 3)
    with torch.no_grad():
        made = trajectory(found, normal, 0.7)
        torch.testing.assert_close(made.out, found.reverse(normal, 0.7))
        twice = trajectory(found, normal, 1.4)
    torch.testing.assert_close(twice.std / made.std, torch.full((4, 3), 2.0), atol=0.5, rtol=0.5)
    assert (made.std > 0).all()


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(1)
    made = [MAR(MARConfig(channels=3, tokens=9), Denoiser(24, 3, 8, 1)).eval() for _ in range(2)]
    for model in made:
        torch.nn.init.normal_(model.diffloss.outputs.weight, std=0.2)
    return made


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_rejecting_nothing_keeps_the_draft_and_an_equal_draft_is_kept(models, scale):
    """Rules that accept everything and that take the target's value, against the models alone."""
    rng = torch.Generator().manual_seed(2)
    orders = torch.stack([torch.randperm(9, generator=rng) for _ in range(2)])
    normal = 0.1 * torch.randn(2, 9, 3, 3, generator=rng)
    settings = SpeculativeMasked(steps=4, scale=scale, drafts=2, prefill=0.0, sections=(2, 1))
    alone = SpeculativeMasked(steps=4, scale=scale, drafts=2, prefill=1.0, sections=(2, 1))
    given = torch.tensor([1, 3]), orders, normal

    def keep(x, p, q):
        return verify(x, q, q, 1.0, torch.zeros(len(x)), iter(()))

    drafted = sample(*models, *given, keep, settings)
    target = sample(*models, *given, keep, alone)
    assert not torch.allclose(drafted, target)
    same = sample(models[1], models[1], *given, keep, settings)
    torch.testing.assert_close(same, target, atol=1e-6, rtol=0)
    assert torch.equal(drafted, sample(*models, *given, keep, settings))
