"""Tokenizer training: images get better, small maps keep many codes, and without a remedy they do not."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from unified.tokenizers.codebook import CodebookConfig
from unified.tokenizers.losses import (
    PatchDiscriminator,
    RandomPyramid,
    discriminator_loss,
    generator_loss,
    lpips,
)
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer
from unified.train.tokenizer import (
    AnnealingConfig,
    LossConfig,
    RestartConfig,
    TokenizerTrainingConfig,
    train_tokenizer,
    usage_by_scale,
)

NETWORK = NetworkConfig(
    latent=16, width=32, multipliers=(1, 1, 1), blocks=0, attention=False, middle_attention=False, groups=8
)
SHAPES = [(1, 1), (2, 2), (4, 4), (8, 8)]
CODES = 256


def scenes(count: int, seed: int, size: int = 32) -> torch.Tensor:
    """One to three coloured discs and squares on a coloured ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images = np.empty((count, 3, size, size), np.float32)
    for image in images:
        image[:] = rng.uniform(-1, 1, 3)[:, None, None]
        for _ in range(rng.integers(1, 4)):
            row, column = rng.integers(4, size - 4, 2)
            radius = rng.integers(4, 10)
            disc = (y - row) ** 2 + (x - column) ** 2 < radius**2
            square = (abs(y - row) < radius) & (abs(x - column) < radius)
            image[:, disc if rng.random() < 0.5 else square] = rng.uniform(-1, 1, 3)[:, None]
    return torch.from_numpy(images)


def batches(images: torch.Tensor, size: int = 8):
    generator = torch.Generator().manual_seed(0)
    while True:
        yield images[torch.randint(len(images), (size,), generator=generator)]


def build(
    kind: str, codebook: CodebookConfig | None = None, network: NetworkConfig = NETWORK, sizes=(1, 2, 4, 8)
):
    torch.manual_seed(0)
    codebook = codebook or CodebookConfig()
    if kind == "vq":
        return VQTokenizer(VQConfig(codes=CODES, dim=16, encoder=network, codebook=codebook))
    return ResidualVQTokenizer(ResidualVQConfig(codes=CODES, network=network, sizes=sizes, codebook=codebook))


@torch.no_grad()
def psnr(tokenizer, images: torch.Tensor) -> float:
    got = tokenizer.decode_maps(tokenizer.encode(images, SHAPES), SHAPES).clamp(-1, 1)
    return float(-10 * torch.log10((got - images).square().mean() / 4))


def trained(kind: str, remedy: bool) -> tuple[float, dict[str, int]]:
    """(gain in PSNR in dB, codes used by map size) on 256 held-out images."""
    held_out, tokenizer = scenes(256, 1), build(kind)
    before = psnr(tokenizer, held_out)
    # Without the remedy codes die within the first steps and never come back: half the training shows it.
    steps, restarts = (200, RestartConfig()) if remedy else (100, None)
    config = TokenizerTrainingConfig(steps=steps, draws=1, restarts=restarts)
    train_tokenizer(tokenizer, batches(scenes(512, 0)), config, generator=torch.Generator().manual_seed(0))
    used = usage_by_scale(tokenizer, [held_out], SHAPES)
    return psnr(tokenizer, held_out) - before, {
        size: round(CODES * row["usage"]) for size, row in used.items()
    }


@pytest.mark.parametrize("kind", ["vq", "residual"])
@pytest.mark.slow
def test_training_improves_images_and_small_maps_keep_their_codes_by_restarts_alone(kind):
    gain, kept = trained(kind, remedy=True)
    _, lost = trained(kind, remedy=False)
    print(f"{kind}: {gain:+.2f} dB, codes used with restarts {kept}, without {lost}")
    assert gain > 3.0  # dB; measured: 5.2 for both
    assert kept["1x1"] >= 30  # of 256 held-out images; measured 80 and 50
    assert kept["2x2"] >= 60  # measured above 100
    assert lost["1x1"] <= min(25, kept["1x1"] / 2)  # measured 16 and 10
    assert lost["2x2"] <= min(45, kept["2x2"] / 2)  # measured 31 and 30


TINY = NetworkConfig(
    latent=8, width=32, multipliers=(1, 1), blocks=0, attention=False, middle_attention=False, groups=8
)


@pytest.mark.parametrize("kind", ["vq", "residual"])
def test_all_terms_and_the_log_together(tmp_path, kind):
    tokenizer = build(kind, network=TINY, sizes=(1, 2, 4))
    losses = LossConfig(
        pixels="l1", perceptual=0.1, adversarial=0.1, adversarial_start=2, entropy=0.1 * (kind == "vq")
    )
    config = TokenizerTrainingConfig(steps=5, log_every=2, losses=losses, average=0.5)
    log = tmp_path / "run" / "log.jsonl"
    small = scenes(16, 0, 16)[:, :, :8, :8]
    records = train_tokenizer(tokenizer, batches(small), config, generator=torch.Generator(), log=log)
    assert [json.loads(line) for line in log.read_text().splitlines()] == records
    assert [record["step"] for record in records] == [2, 4, 5]
    for record in records:
        assert {
            "pixels",
            "quantiser",
            "perceptual",
            "adversarial",
            "discriminator",
            "psnr",
            "rate",
        } <= record.keys()
        assert record["scales"]["4x4"]["ids"] >= 8 * 16
        assert 0 < record["scales"]["4x4"]["usage"] <= 1
    assert not tokenizer.training


def test_same_seed_gives_the_same_weights_and_leaves_the_global_seed_alone():
    results = []
    for _ in range(2):
        tokenizer = build("vq", network=TINY)
        before = torch.random.get_rng_state()
        config = TokenizerTrainingConfig(steps=3)
        train_tokenizer(
            tokenizer, batches(scenes(8, 0, 16)[:, :, :8, :8]), config, generator=torch.Generator()
        )
        assert torch.equal(torch.random.get_rng_state(), before)
        results.append(torch.cat([p.flatten() for p in tokenizer.parameters()]))
    assert torch.equal(*results)


def test_running_mean_of_weights_moves_less_than_the_weights():
    start = build("vq", network=TINY)
    moved = []
    for average in (0.0, 0.9):
        tokenizer = build("vq", network=TINY)
        config = TokenizerTrainingConfig(steps=4, average=average, restarts=None)
        train_tokenizer(tokenizer, batches(scenes(8, 0, 16)), config, generator=torch.Generator())
        moved.append(float((tokenizer.decoder.conv_in.weight - start.decoder.conv_in.weight).detach().norm()))
    assert 0 < moved[1] < moved[0] / 2


def test_images_that_end_early_are_an_error():
    with pytest.raises(ValueError, match="ended after 2 of 5 steps"):
        train_tokenizer(
            build("vq", network=TINY),
            itertools.islice(batches(scenes(8, 0, 16)), 2),
            TokenizerTrainingConfig(steps=5),
            generator=torch.Generator(),
        )


def test_restarts_need_a_plain_codebook():
    tokenizer = build("vq", CodebookConfig(kind="linear"), TINY)
    with pytest.raises(ValueError, match="set restarts to None"):
        train_tokenizer(tokenizer, [], TokenizerTrainingConfig(), generator=torch.Generator())


def test_learning_rate_warms_up_holds_and_falls():
    annealing = AnnealingConfig(warmup=10, hold=0.3, final=0.01)
    factors = [annealing.factor(step, 111) for step in range(111)]
    assert factors[0] < 0.1
    assert factors[10] == factors[40] == 1.0
    assert factors[39] > factors[60] > factors[100] > factors[110]
    assert factors[110] == pytest.approx(0.01)


def test_training_maps_hold_the_full_one_and_small_ones():
    tokenizer, generator = build("vq"), torch.Generator().manual_seed(0)
    drawn = [tokenizer.training_shapes(torch.zeros(1, 3, 32, 16), 2, generator) for _ in range(50)]
    assert all(shapes[-1] == (8, 4) and len(shapes) == 3 for shapes in drawn)
    assert {shape for shapes in drawn for shape in shapes} == {(p, max(1, round(p / 2))) for p in range(1, 9)}
    assert build("residual").training_shapes(torch.zeros(1, 3, 32, 32), 2, generator) == SHAPES


def test_feature_distance_is_zero_for_equal_images_and_punishes_blur():
    pyramid, images = RandomPyramid(), scenes(4, 0)
    blurred = torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)
    assert pyramid(images, images) == 0
    assert pyramid(blurred, images) > 10 * pyramid(images + 0.01, images) > 0
    assert torch.equal(RandomPyramid().kernel_0, pyramid.kernel_0)


def test_discriminator_learns_to_tell_blurred_from_sharp():
    torch.manual_seed(0)
    critic, images = PatchDiscriminator(width=8), scenes(16, 0)
    blurred = torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(40):
        loss = discriminator_loss(critic(images), critic(blurred))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.7
    assert generator_loss(critic(images)) < generator_loss(critic(blurred))


def test_lpips_without_package_or_weights_says_so(tmp_path):
    with pytest.raises((ImportError, ValueError), match=r"needs the package lpips|no such file"):
        lpips(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: LossConfig(pixels="l3"), "'l1' or 'l2'"),
        (lambda: LossConfig(perceptual=-1), "negative"),
        (lambda: AnnealingConfig(hold=2), "hold"),
        (lambda: RestartConfig(every=0), "every"),
        (lambda: TokenizerTrainingConfig(steps=0), "steps"),
        (lambda: TokenizerTrainingConfig(learning_rate=0), "positive"),
    ],
)
def test_impossible_settings_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


def test_residual_tokenizer_refuses_an_entropy_term():
    tokenizer = build("residual", network=TINY, sizes=(1, 2, 4))
    with pytest.raises(ValueError, match="entropy"):
        tokenizer.training_pass(torch.zeros(1, 3, 8, 8), [1, 2, 4], entropy=0.1)


@pytest.mark.parametrize("options", [{"bf16": True}, {"optimiser": "muon"}], ids=["bf16", "muon"])
@pytest.mark.slow
def test_other_ways_to_train_learn_too(options):
    tokenizer, held_out = build("vq"), scenes(64, 1)
    before = psnr(tokenizer, held_out)
    config = TokenizerTrainingConfig(steps=60, learning_rate=3e-3, log_every=10, **options)
    records = train_tokenizer(
        tokenizer, batches(scenes(64, 0)), config, generator=torch.Generator().manual_seed(0)
    )
    assert records[-1]["pixels"] < records[0]["pixels"]
    assert psnr(tokenizer, held_out) > before + 3


@pytest.mark.slow
def test_a_decoder_learns_from_codes_that_stand_still():
    network = NetworkConfig(
        latent=32, width=32, multipliers=(1,), patch=4, groups=8, attention=False, middle_attention=False,
        shortcut=True,
    )  # fmt: skip
    torch.manual_seed(0)
    tokenizer = VQTokenizer(VQConfig(codes=CODES, dim=32, encoder=network, normalised=False))
    settings = {"decoder_only": True, "optimiser": "muon", "average": 0.9}
    config = TokenizerTrainingConfig(
        steps=200, learning_rate=2e-3, restarts=RestartConfig(first=20, until=0.0), **settings
    )
    held_out, images = scenes(64, 1), scenes(512, 0)
    generator = torch.Generator().manual_seed(0)
    first = TokenizerTrainingConfig(steps=1, learning_rate=1e-9, restarts=config.restarts, **settings)
    train_tokenizer(tokenizer, batches(images), first, generator=generator)
    before, codes = psnr(tokenizer, held_out), tokenizer.codebook().clone()
    ids = tokenizer.encode(held_out)[0]
    assert before > 18  # clusters of patches are a fair tokenizer already
    train_tokenizer(
        tokenizer, batches(images), replace(config, restarts=None), generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(tokenizer.codebook(), codes)
    assert torch.equal(tokenizer.encode(held_out)[0], ids)
    assert psnr(tokenizer, held_out) > before + 0.3
