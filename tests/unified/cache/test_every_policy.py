"""What holds for every registered cache policy, on our model and on VAR, guided or not: with a budget of
everything an image is bit-equal to one with a full cache, and each row of a batch is what it is alone."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer

from unified.cache.policy import POLICIES, CachePolicy, Full
from unified.cache.scalekv import Budget, Selector, shared_budgets
from unified.checkpoints.adaln import TransformerConfig
from unified.checkpoints.var import VAR
from unified.decoding.drawing import Drawing
from unified.decoding.guidance import Ramp
from unified.decoding.session import Session

SIDES = (1, 2, 3, 4, 6)
LENGTHS = [side**2 for side in SIDES]
ENDLESS = {step: Budget(drafter=10**6, refiner=10**6) for step in range(len(SIDES))}
TIGHT = shared_budgets(LENGTHS, 2, {3: [0], 4: [0]}, mean=12, refiner=6)
EVERYTHING: dict[str, dict[str, Any]] = {
    "window": {"size": 10**6},
    "scalekv": {"budgets": ENDLESS, "capacity": 0},
}
LITTLE: dict[str, dict[str, Any]] = {
    "window": {"size": 12},
    "scalekv": {"budgets": TIGHT, "capacity": 12, "selector": Selector(window=4, kernel=3)},
    "hack": {"heads": {(0, 0)}, "contextual": 6, "structural": 14, "observers": 3},
}


@dataclass
class Case:
    """A model, one prompt a row, and the order it writes in."""

    model: Any
    prompts: list[list[int]]
    order: str


def tiny_var() -> VAR:
    network = NetworkConfig(latent=8, width=32, multipliers=(1, 1), blocks=0)
    shapes = tuple((side, side) for side in SIDES)
    config = TransformerConfig(codes=16, code_width=8, width=32, shapes=shapes)
    torch.manual_seed(0)
    tokenizer = ResidualVQTokenizer(ResidualVQConfig(codes=16, network=network, sizes=SIDES))
    model = VAR(config, tokenizer.eval())
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model.eval()


@pytest.fixture(scope="module", params=["unified", "var"])
def case(request, model, stream) -> Case:
    if request.param == "var":
        var = tiny_var()
        return Case(var, [var.prompt(label) for label in (4, 9, 4)], var.order)
    said = ("draw a cat", "x", "a much longer request than the others")
    prompts = [stream.encode([{"role": "user", "content": text}], prompt=True) for text in said]
    return Case(model, prompts, "next_scale")


@pytest.fixture(params=[None, Ramp(2.0)], ids=["plain", "guided"])
def guidance(request) -> Ramp | None:
    return request.param


def drawn(case: Case, policy: CachePolicy, guidance: Ramp | None, rows: list[int]) -> Drawing:
    session = Session(case.model, rows=len(rows), seed=[7 + row for row in rows], policy=policy)
    session.feed([case.prompts[row] for row in rows])
    return session.draw(SIDES, order=case.order, guidance=guidance)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["default", "everything"])
def test_a_budget_of_everything_is_bit_equal(case, guidance, name, options):
    full = drawn(case, Full(), guidance, [0, 1, 2])
    found = drawn(case, POLICIES[name](**options.get(name, {})), guidance, [0, 1, 2])
    assert torch.equal(found.codes, full.codes)
    assert torch.equal(found.log_probs, full.log_probs)


@pytest.mark.parametrize("name", POLICIES)
def test_a_row_is_the_same_alone_and_in_a_batch(case, guidance, name):
    together = drawn(case, POLICIES[name](**LITTLE.get(name, {})), guidance, [0, 1, 2])
    for row in range(3):
        alone = drawn(case, POLICIES[name](**LITTLE.get(name, {})), guidance, [row])
        assert torch.equal(alone.codes[0], together.codes[row])
        torch.testing.assert_close(alone.log_probs[0], together.log_probs[row], atol=1e-4, rtol=1e-4)
