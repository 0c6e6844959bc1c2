"""TokenBridge (arXiv 2503.16430): are latents that were quantised after training, channel by channel, as good
as continuous ones, and must their channels be predicted one after the other?"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    holds,
    not_applicable,
)
from unified.eval.lab.ground.latents import (
    CHANNELS,
    TOKENS,
    CaptionEmbedding,
    Scale,
    batch_of,
    begin,
    drawn,
    in_blocks,
    masked_batch,
    scored,
)
from unified.eval.lab.ground.measures import FRECHET, pixel_psnr
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes
from unified.tokenizers.scalar_quantiser import ScalarQuantiser

from unified.checkpoints.mar.network import MAR, MARConfig, masked_loss
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.mar.sampling import sample as sample_mar
from unified.checkpoints.tokenbridge.network import TokenBridge
from unified.checkpoints.tokenbridge.sampling import sample as sample_bridge
from unified.decoding.noise import PositionNoise
from unified.heads.channel_codes import ChannelPredictor
from unified.heads.denoiser import Denoiser
from unified.orders.masked_schedule import shuffled_orders

SHARE, RATE, DROPPED, REPEATS = 0.7, 3e-3, 0.1, 2
BITS, COARSE = 6, 3
KEPT = 0.9999  # of the latents lie within the range of the quantiser
SETTINGS = MaskedDecoding(steps=16, sections=(1,) * 19 + (0,))
LEAST = 0.3  # attribute accuracy below which heads are not told apart


class Parallel(ChannelPredictor):
    """The same network with every channel told nothing of the others."""

    def forward(self, hidden: Tensor, codes: Tensor, *, shifted: bool = False) -> Tensor:
        return super().forward(hidden, torch.zeros_like(codes), shifted=shifted)

    def sample(
        self, hidden: Tensor, uniform: Tensor, temperature: float = 1.0, *, shifted: bool = False
    ) -> tuple[Tensor, Tensor]:
        blank = torch.zeros(len(hidden), self.channels, dtype=torch.long)
        probs = (super().forward(hidden, blank, shifted=shifted).float() / temperature).softmax(dim=-1)
        codes = (probs.cumsum(dim=-1) < uniform[..., None]).sum(dim=-1).clamp(max=probs.shape[-1] - 1)
        return codes, probs.gather(-1, codes[..., None])[..., 0].log().sum(dim=-1)


def backbone(sizes: Sizes, head: Denoiser | None = None) -> MAR:
    """A masked autoencoder of an eighth of a base model's inner size, told captions."""
    size = sizes.model.part(0.5, 0.5)
    half = max(1, size.layers // 2)
    config = MARConfig(
        channels=CHANNELS,
        tokens=TOKENS,
        classes=1,
        width=size.width,
        buffer=4,
        depth=(half, half),
        heads=size.heads,
        hidden=4 * size.width,
    )
    model = MAR(config, head)
    begin(model)
    told: nn.Module = CaptionEmbedding(size.width)
    model.class_emb = told  # type: ignore[assignment]
    return model


def quantiser_of(tokens: Tensor, bits: int = BITS) -> ScalarQuantiser:
    """For latents [N, T, C] of spread 1, whose tails may be heavier than the published range is wide."""
    largest = max(float(np.quantile(tokens.abs().numpy(), KEPT)), 1.0)
    return ScalarQuantiser(bits, low=-largest, high=largest)


def bridge(kind: type[ChannelPredictor], sizes: Sizes, quantiser: ScalarQuantiser) -> TokenBridge:
    size = sizes.model.part(0.5, 0.5)
    head = kind(size.width, CHANNELS, quantiser.codes, size.width, 2, size.heads, 4 * size.width)
    return TokenBridge(backbone(sizes), head, quantiser, tuple(range(CHANNELS)))


def finished(trial: Trial, scale: Scale, sample: object, seconds: float) -> Numbers:
    """Drawings by a finished model: what they show, and the seconds of one."""
    scenes = trial.ground.prompts(trial.seed)
    began = time.perf_counter()
    tokens = drawn(trial, scenes, sample)  # type: ignore[arg-type]
    cost = (time.perf_counter() - began) / len(scenes)
    return {**scored(trial, scale, scenes, tokens), "seconds": cost, "training": seconds}


def orders_for(noise_seed: int, rows: int) -> Tensor:
    return shuffled_orders(rows, (TOKENS,), noise_seed)


def of_codes(kind: type[ChannelPredictor], trial: Trial) -> Numbers:
    """Quantised channels, predicted one after the other or all at once."""
    scale, sizes = Scale.of(trial.ground), trial.ground.sizes
    torch.manual_seed(trial.seed)
    tokens = scale.tokens(trial.ground)
    model = bridge(kind, sizes, quantiser_of(tokens))
    codes = model.quantiser.encode(tokens)
    captions = trial.ground.captions()

    def loss(step: int) -> Tensor:
        chosen, generator = batch_of(trial, step, sizes.batch)
        mask, dropped = masked_batch(len(chosen), generator, DROPPED)
        told = model.backbone.classes(captions[chosen], len(chosen), dropped)
        return model.loss(model(codes[chosen], mask, told), codes[chosen], mask)

    course = Course(steps=sizes.steps(SHARE), rate=RATE, what=f"{kind.__name__}, seed {trial.seed}")
    done = train(model, loss, course, trial.work, in_blocks)

    def sample(told: Tensor, noise: PositionNoise) -> Tensor:
        found = sample_bridge(model, told, orders_for(trial.seed, len(told)), noise, SETTINGS)
        return model.quantiser.decode(found)

    return finished(trial, scale, sample, done.seconds)


def trained_masked(trial: Trial, share: float, what: str) -> tuple[MAR, float]:
    """A masked model of continuous tokens with a diffusion head, and the seconds of its training."""
    scale, sizes = Scale.of(trial.ground), trial.ground.sizes
    width = sizes.model.part(0.5, 0.5).width
    torch.manual_seed(trial.seed)
    model = backbone(sizes, Denoiser(width, CHANNELS, 2 * width, 3))
    tokens, captions = scale.tokens(trial.ground), trial.ground.captions()

    def loss(step: int) -> Tensor:
        chosen, generator = batch_of(trial, step, sizes.batch)
        mask, dropped = masked_batch(len(chosen), generator, DROPPED)
        told = model.classes(captions[chosen], len(chosen), dropped)
        hidden = model(tokens[chosen], mask, told)
        count = REPEATS * hidden.shape[0] * TOKENS
        steps = torch.randint(1000, (count,), generator=generator)
        noise = torch.randn(count, CHANNELS, generator=generator)
        return masked_loss(model.diffloss, hidden, tokens[chosen], mask, steps, noise)

    course = Course(steps=sizes.steps(share), rate=RATE, what=f"{what}, seed {trial.seed}")
    return model, train(model, loss, course, trial.work, in_blocks).seconds


def of_values(trial: Trial) -> Numbers:
    """Continuous tokens by a diffusion head on the same backbone."""
    model, seconds = trained_masked(trial, SHARE, "diffusion head")

    def sample(told: Tensor, noise: PositionNoise) -> Tensor:
        return sample_mar(model, told, orders_for(trial.seed, len(told)), noise, SETTINGS)

    return finished(trial, Scale.of(trial.ground), sample, seconds)


def quantised(trial: Trial) -> Numbers:
    """Latents of held-out pictures by six and by three bits a scalar, and by six in the published range:
    errors, and what pictures lose; the error of six bits on the standard normal distribution."""
    scale = Scale.of(trial.ground)
    train_tokens = scale.tokens(trial.ground)
    tokens, true = scale.tokens(trial.ground, "validation"), trial.ground.pictures("validation")
    whole = pixel_psnr(scale.pictures(trial.ground, tokens), true)
    normal = torch.randn(200_000, generator=torch.Generator().manual_seed(trial.seed))
    published = ScalarQuantiser(BITS)
    error = (published.decode(published.encode(normal)) - normal).square().mean()
    found: Numbers = {"psnr": whole, "normal": float(error), "kurtosis": float((tokens**4).mean())}
    ways = {
        str(BITS): quantiser_of(train_tokens),
        str(COARSE): quantiser_of(train_tokens, COARSE),
        "published": published,
    }
    for name, quantiser in ways.items():
        made = quantiser.decode(quantiser.encode(tokens))
        every = torch.arange(quantiser.codes)
        found[name] = {
            "error": float((made - tokens).square().mean()),
            "lost": whole - pixel_psnr(scale.pictures(trial.ground, made), true),
            "returns": bool(torch.equal(quantiser.encode(quantiser.decode(every)), every)),
            "used": float(np.mean([len(x.unique()) for x in quantiser.encode(tokens).flatten(0, 1).T])),
        }
    return found


def judge(results: Results) -> list[Criterion]:
    def values(name: str) -> list[float]:
        return results.values("quantised", name)

    def points(one: str, other: str) -> list[float]:
        return [100 * x for x in results.difference(one, other, "attributes")]

    head = [
        at_most("(1) six bits a scalar cost, dB", values("6/lost"), 0.3),
        at_most("(1) squared error of a scalar of the standard normal distribution", values("normal"), 0.001),
        at_least("(1) three bits cost, dB", values("3/lost"), 1.0),
        holds("(3) every code returns from its value", [bool(x) for x in values("6/returns")]),
    ]
    best = max(sum(results.values(arm, "attributes")) / len(results.seeds) for arm in ("codes", "values"))
    what = "(2) channels one after the other against all at once, points"
    if best < LEAST:
        return [*head, not_applicable(what, f"no head passes an accuracy of {best:.2f}", central=True)]
    pairs = zip(results.values("codes", "seconds"), results.values("values", "seconds"), strict=True)
    return [
        *head,
        at_least(what, points("codes", "parallel"), 5.0),
        at_least("(4) against a diffusion head, points", points("codes", "values"), -2.0),
        at_most("(4) seconds of a picture beside a diffusion head", [a / b for a, b in pairs], 1.0),
    ]


EXPERIMENT = Experiment(
    name="tokenbridge",
    what="a masked model of latents quantised after training, channel by channel or all at once, or "
    "continuous",
    arms={
        "quantised": quantised,
        "codes": partial(of_codes, ChannelPredictor),
        "parallel": partial(of_codes, Parallel),
        "values": of_values,
    },
    judge=judge,
    minutes=27,
    scaled="8 x 8 tokens of 8 channels, told by captions; a backbone of an eighth of a base model's inner "
    "size, 420 steps; 16 decoding steps without guidance, 19 denoising steps of the diffusion head; "
    "channels in their own order; the latents here have heavy tails, so that all but one in ten "
    "thousand lie within the range of the quantiser, in place of 5 spreads",
    shown=("attributes", "all", FRECHET, "seconds"),
)
