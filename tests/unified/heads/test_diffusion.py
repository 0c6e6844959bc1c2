"""Diffusion head: agreement with the published one, a toy distribution learned, guidance and read-outs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.heads.denoiser import waves
from unified.heads.diffusion import DiffusionConfig, DiffusionDistribution, DiffusionHead, Term
from unified.heads.diffusion_schedule import cosine, spaced

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "mar_head"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is absent")

NAMES = {
    "time_embed.mlp.": "time.",
    "cond_embed.": "condition.",
    "input_proj.": "inputs.",
    "res_blocks.": "blocks.",
    "in_ln.": "norm.",
    "final_layer.linear.": "outputs.",
    "final_layer.": "",
    "adaLN_modulation.": "modulation.",
}


def renamed(name):
    """A parameter of MAR's `diffloss` as ours is called."""
    name = name.removeprefix("net.")
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


@pytest.fixture(scope="module")
def published():
    """The head with published weights, and the tensors of a run of the published code."""
    config = json.loads((GOLDEN / "config.json").read_text())
    sections = tuple(int(count) for count in config["respacing"].split(","))
    head = DiffusionHead(
        config["z_channels"],
        config["channels"],
        DiffusionConfig(inner=config["width"], depth=config["depth"], sampling=sections),
    )
    weights = load_file(GOLDEN / "weights.safetensors")
    head.denoiser.load_state_dict({renamed(name): weight for name, weight in weights.items()})
    return config, head, load_file(GOLDEN / "io.safetensors")


def close(found, wanted, rtol=1e-4, atol=1e-5):
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)


@golden
def test_the_schedule_is_the_published_one(published):
    config, head, wanted = published
    for name, schedule, every in (
        ("train", cosine(1000), 37),
        ("gen", cosine(1000, head.config.sampling), 1),
    ):
        prefix = f"schedule.{name}."
        torch.testing.assert_close(schedule.betas[::every], wanted[prefix + "betas"], rtol=1e-12, atol=0)
        close(schedule.kept[::every], wanted[prefix + "alphas_cumprod"], 1e-12, 0)
        close(schedule.posterior_variance[::every], wanted[prefix + "posterior_variance"], 1e-9, 1e-15)
        log_variance = wanted[prefix + "posterior_log_variance_clipped"]
        close(schedule.posterior_log_variance[::every], log_variance, 1e-9)
        for number, weights in enumerate(schedule.posterior_weights, start=1):
            close(weights[::every], wanted[f"{prefix}posterior_mean_coef{number}"], 1e-9, 1e-12)
    assert torch.equal(schedule.steps, wanted["schedule.gen.timestep_map"])
    assert spaced(1000, [config["steps_full"]]) == wanted["schedule.full.timestep_map"].tolist()
    for sections in ([100], [250], [10, 15, 20]):
        name = "_".join(map(str, sections))
        assert spaced(1000, sections) == wanted[f"respacing.{name}"].tolist()


@golden
def test_loss_and_gradients_are_the_published_ones(published):
    _, head, wanted = published
    hidden = wanted["train.z"].clone().requires_grad_()
    head.zero_grad()
    steps, noise = wanted["train.t"], wanted["train.eps"]
    close(head.denoiser.time(waves(steps)), wanted["train.time_emb"])
    close(head.denoiser(wanted["train.xt"], steps, hidden), wanted["train.net"])
    loss = head.denoising_loss(hidden, wanted["train.x0"], steps, noise)
    close(loss, wanted["train.loss_per_token"])
    close(loss.mean(), wanted["train.loss_nomask"])
    ((loss * wanted["train.mask"]).sum() / wanted["train.mask"].sum()).backward()
    close(hidden.grad, wanted["train.grad_z"])
    close(head.denoiser.inputs.weight.grad, wanted["train.grad_input_proj"])
    close(head.denoiser.outputs.weight.grad, wanted["train.grad_final"])


@golden
@torch.no_grad()
@pytest.mark.parametrize("case", ["plain", "temp", "cfg", "full_plain", "full_cfg"])
def test_samples_are_the_published_ones(published, case):
    config, head, wanted = published
    schedule = cosine(1000, (config["steps_full"],) if "full" in case else head.config.sampling)
    one, null = (
        DiffusionDistribution(head.denoiser, schedule, (Term(wanted[name], 1.0, 1.0),))
        for name in ("sample.z", "sample.z_uncond")
    )
    normal = wanted["sample.noise"][: len(schedule.steps)].clone()
    normal[0] = wanted["sample.noise0"]
    temperature = 1.0 if "plain" in case else config["temperature"]
    chosen = one.guided(null, config["cfg"] - 1) if "cfg" in case else one
    out = wanted[f"{case}.out"][: len(wanted["sample.z"])]
    found = chosen.reverse(normal.transpose(0, 1), temperature)
    assert (found - out).abs().max() < 1e-4 * out.abs().max()


CENTRES = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]], [[0.0, 1.0], [0.0, -1.0]]])  # [hidden state, mode, 2]
NEAR = 0.02  # energy distance; two samples of the truth are 0.002 apart, those of the two states 0.6


def toy(states, generator):
    """Points of two modes, which lie in a row for one hidden state and in a column for the other."""
    modes = torch.randint(2, states.shape, generator=generator)
    return CENTRES[states, modes] + 0.15 * torch.randn(*states.shape, 2, generator=generator)


def energy(one, other):
    """Energy distance between two samples [N, 2]; 0 for the same distribution."""
    apart, own = torch.cdist(one, other).mean(), (torch.cdist(one, one), torch.cdist(other, other))
    return float(2 * apart - own[0].mean() - own[1].mean())


@torch.no_grad()
def distances(head, hidden):
    """Of 500 samples for each of two hidden states from the truth."""
    states = torch.arange(2)[:, None].expand(-1, 500)
    noise, places = PositionNoise([1, 2]), torch.arange(500).expand(2, -1)
    found = head.distribution(hidden[states]).sample(noise, places, Sampler()).values
    return [energy(*pair) for pair in zip(found, toy(states, torch.Generator().manual_seed(5)), strict=True)]


def test_a_toy_distribution_is_learned():
    torch.manual_seed(0)
    generator, hidden = torch.Generator().manual_seed(0), torch.randn(2, 8)
    head = DiffusionHead(8, 2, DiffusionConfig(inner=64, depth=2, sampling=(2,) * 19 + (0,)))
    assert min(distances(head, hidden)) > NEAR
    steps = 200
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        states = torch.randint(2, (64,), generator=generator)
        optimizer.zero_grad()
        head.loss(hidden[states], toy(states, generator), generator).mean().backward()
        optimizer.step()
        schedule.step()
    assert max(distances(head, hidden)) < NEAR
    assert min(distances(head, hidden.flip(0))) > NEAR  # the hidden state is used


def test_a_gaussian_of_the_same_covariance_is_not_near():
    generator = torch.Generator().manual_seed(0)
    truth = toy(torch.zeros(500, dtype=torch.long), generator)
    gaussian = torch.randn(500, 2, generator=generator) @ torch.linalg.cholesky(torch.cov(truth.T)).T
    assert energy(gaussian, truth) > NEAR


def test_likelihoods_are_refused():
    head = DiffusionHead(8, 2)
    found = head.distribution(torch.randn(1, 3, 8))
    with pytest.raises(ValueError, match="no exact log-probability"):
        found.log_prob(torch.randn(1, 3, 2))
    with torch.no_grad():
        drawn = found.sample(PositionNoise([0]), torch.arange(3)[None], Sampler())
    assert drawn.log_probs.isnan().all()


def test_at_temperature_zero_the_start_alone_is_drawn():
    torch.manual_seed(0)
    head = DiffusionHead(8, 2).requires_grad_(False)
    found = head.distribution(torch.randn(1, 3, 8))
    normal = torch.randn(1, 3, 95, 2)
    other = torch.cat([normal[..., :1, :], torch.randn(1, 3, 94, 2)], dim=-2)
    assert torch.equal(found.reverse(normal, 0.0), found.reverse(other, 0.0))
    assert not torch.equal(found.reverse(normal, 1.0), found.reverse(other, 1.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "at least 1"),
        ({"sampling": ()}, "at least one step"),
        ({"sampling": (0, 0)}, "at least one step"),
        ({"sampling": (1001,)}, "ask for fewer"),
    ],
)
def test_bad_diffusion_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionConfig(**options)


def test_heads_built_without_storage_leave_schedules_usable():
    with torch.device("meta"):
        head = DiffusionHead(8, 2, DiffusionConfig(steps=37, sampling=(9,)))
    assert head.denoiser.inputs.weight.is_meta
    assert cosine(37, (9,)).table.isfinite().all()
