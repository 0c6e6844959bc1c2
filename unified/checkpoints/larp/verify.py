"""LARP's video tokenizer, prior and discriminator against a golden folder (`python -m unified.checkpoints
verify`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.cases import checked
from unified.checkpoints.check import Check, not_compared
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.image_networks import levels_of
from unified.checkpoints.larp import network, training
from unified.checkpoints.llamagen_losses import hinge_discriminator, hinge_generator
from unified.checkpoints.state_dict import load_strict

INPUTS = ("video", "train.ids", "train.ss_uniform", "train.ss_sampled_ids",
          "gan.ns_smooth_noise_real", "gan.ns_smooth_noise_fake")  # fmt: skip
UNKNOWN_START = "init_std.bottleneck.regularizer.embedding.weight"
DISCRIMINATOR = "discriminator."
WEIGHTS = (0.1, 0.06)  # of the quantiser's loss and of the prior's
ADVERSARIAL = 0.3
MEANS = training.LeCam(real=0.3, fake=-0.2)  # before the step
Stored = Mapping[str, Tensor]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer."""
    return config.get("case") == "larp"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def load(folder: Path) -> network.LARP:
    """The tokenizer of a golden folder, in eval mode."""
    config = read_config(folder)
    state = {
        name: value
        for name, value in read_state(folder, config).items()
        if not name.startswith(DISCRIMINATOR)
    }
    tokenizer = network.LARP(config_of(config, state))
    if "decoder_patch_query_token_type_embed" not in state:
        tokenizer.decoder_patch_query_token_type_embed = None
    load_strict(tokenizer, state)
    return tokenizer.eval()


def config_of(config: Mapping[str, Any], state: Stored) -> network.LARPConfig:
    """Sizes come from the weights, where they show there."""
    names, prior = set(state), config["prior"]
    _, longest, width = state["prior_model.pos_emb"].shape
    tokens, hidden = state["encoder_latent_query_embed"].shape
    codes, dim = state["bottleneck.regularizer.embedding.weight"].shape
    return network.LARPConfig(
        clip=(config["frame_num"], config["input_size"]),
        patch=_patch(state["x_embedder.proj.weight"]),
        tokens=tokens,
        width=hidden,
        heads=config["heads"],
        depths=(levels_of(names, "encoder.blocks."), levels_of(names, "decoder.blocks.")),
        codebook=(codes, dim),
        prior=network.PriorConfig(
            layers=levels_of(names, "prior_model.blocks."),
            heads=prior["n_head"],
            width=width,
            longest=longest,
        ),
    )


def _patch(weight: Tensor) -> network.Patch:
    return weight.shape[2], weight.shape[3]


def _checks(folder: Path) -> Iterator[Check]:
    config, stored, tokenizer = read_config(folder), read_io(folder), load(folder)
    state = read_state(folder, config)
    trained, made = _trained(tokenizer, config, stored)
    computed = {
        **_tables(tokenizer.config),
        **_coded(tokenizer, config, stored),
        **trained,
        **_judged(tokenizer, config, state, stored, made),
        **_start(tokenizer.config, stored),
    }
    detached = {name: value.detach() for name, value in computed.items()}
    for check in compare(stored, detached, INPUTS.__contains__, _tolerance):
        unknown = check.name == UNKNOWN_START
        yield not_compared(check.name, "a start that is not described") if unknown else check


def _tolerance(name: str) -> Tolerance:
    if name.startswith("init_std."):
        return Tolerance(0.0, 0.6)  # of few numbers that were drawn: tells 0.02 from Xavier's
    if ".grad." in name:
        return Tolerance(1e-6, 1e-3)
    return (
        Tolerance(1e-4) if name in ("perplexity", "train.prior_top1", "train.prior_top5") else Tolerance(1e-5)
    )


def _tables(config: network.LARPConfig) -> dict[str, Tensor]:
    """Fixed positions, which published weights hold too."""
    fresh = network.LARP(config)
    names = ("encoder_patch_pe", "decoder_latent_pe", "decoder_patch_query_embed")
    return {name: fresh.get_buffer(name) for name in names}


@torch.no_grad()
def _coded(tokenizer: network.LARP, config: Mapping[str, Any], stored: Stored) -> dict[str, Tensor]:
    """The likeliest codes."""
    bottleneck, video = tokenizer.bottleneck, stored["video"]
    encoded = tokenizer.encoded(video)
    projected = bottleneck.in_linear(encoded)
    found = bottleneck.quantise(projected, config["stochastic_temperature"])
    return {
        "patch_tokens": tokenizer.x_embedder(video),
        "encoder_out": encoded,
        "codebook_normalised": bottleneck.regularizer.rows(),
        "det.projected_z": projected,
        "det.z_normalised": torch.nn.functional.normalize(projected, dim=-1),
        "det.ids": found.ids,
        "det.quant": found.output,
        "det.decoder_in": bottleneck.out_linear(found.output),
        "det.video": tokenizer.decode_vectors(found.output),
        "det.video_from_ids": tokenizer.decode(found.ids),
        "det.prior_pred": tokenizer.prior_model(found.output),
        "det.prior_logits": training.prior_logits(tokenizer, found.output, config["latent_ce_temperature"]),
    }


def _sampling(config: Mapping[str, Any]) -> training.Sampling:
    return training.Sampling(
        rounds=config["n_rounds"],
        most=config["mix_ss_max_ratio"],
        peak=config["mix_ss_peak_steps_ratio"],
        temperature=config["latent_ce_temperature"],
    )


def _trained(
    tokenizer: network.LARP, config: Mapping[str, Any], stored: Stored
) -> tuple[dict[str, Tensor], Tensor]:
    """One training step with the draws that the folder gives; also the video it makes."""
    video, ids, sampling = stored["video"], stored["train.ids"], _sampling(config)
    ratio = sampling.ratio(config["global_step"], config["max_steps"])
    projected = tokenizer.bottleneck.in_linear(tokenizer.encoded(video))
    found = tokenizer.bottleneck.quantise(projected, config["stochastic_temperature"], ids)
    made = tokenizer.decode_vectors(found.output)
    replaced = None
    if sampling.rounds > 1:
        replaced = (stored["train.ss_uniform"] < ratio, stored["train.ss_sampled_ids"])
    prior = training.prior_scores(tokenizer, found.output, ids, sampling, replaced)
    weighted = config["commitment_loss_weight"] * found.commit_loss
    quantiser = weighted + config["codebook_loss_weight"] * found.codebook_loss
    error = (made - video).abs().mean()
    total = error + WEIGHTS[0] * quantiser + WEIGHTS[1] * prior.loss
    codes = len(tokenizer.bottleneck.regularizer.embedding.weight)
    losses = {
        "probs": found.probabilities,
        "quant": found.output,
        "pred_frames": made,
        "loss_commit": found.commit_loss,
        "loss_codebook": found.codebook_loss,
        "loss_q": quantiser,
        "loss_latent_ce": prior.loss,
        "prior_top1": prior.top1,
        "prior_top5": prior.top5,
        "ss_probs": prior.logits.softmax(dim=-1),
        "l1": error,
        "total": total,
    }
    computed = {f"train.{name}": value for name, value in losses.items()}
    computed |= {f"train.grad.{name}": value for name, value in _gradients(tokenizer, total).items()}
    computed |= {
        f"prior_only.grad.{name}": value for name, value in _gradients(tokenizer, prior.loss).items()
    }
    computed |= {"perplexity": training.perplexity(ids, codes), "codes_used": torch.tensor(len(ids.unique()))}
    return computed, made.detach()


def _gradients(tokenizer: network.LARP, loss: Tensor) -> dict[str, Tensor]:
    """By parameter; zero where there is no path."""
    parameters = dict(tokenizer.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


@torch.no_grad()
def _judged(
    tokenizer: network.LARP, config: Mapping[str, Any], state: Stored, stored: Stored, made: Tensor
) -> dict[str, Tensor]:
    own = {n.removeprefix(DISCRIMINATOR): value for n, value in state.items() if n.startswith(DISCRIMINATOR)}
    patch = _patch(own["x_embedder.proj.weight"])
    clip = tokenizer.config.clip
    critic = training.Discriminator(
        patch,
        (clip[0] // patch[0], clip[1] // patch[1]),
        own["cls_token"].shape[2],
        depth=levels_of(set(own), "transformer_encoder.blocks."),
        heads=config.get("disc_heads", 2),
    )
    load_strict(critic, own)
    real, fake = critic(stored["video"]), critic(made)
    hinge, penalty = hinge_discriminator(real, fake), MEANS.penalty(real, fake)
    after = MEANS.updated(real, fake)
    error = (made - stored["video"]).abs().mean()
    noise = (stored["gan.ns_smooth_noise_real"], stored["gan.ns_smooth_noise_fake"])
    found = {
        "logits_real": real,
        "logits_fake": fake,
        "hinge_d": hinge,
        "generator_total": error + ADVERSARIAL * hinge_generator(fake),
        "ns_g": training.non_saturating_generator(fake),
        "ns_d": training.non_saturating_discriminator(real, fake),
        "ns_smooth_d": training.smoothed_discriminator(real, fake, noise),
        "lecam_reported": penalty,
        "discriminator_total": (hinge + MEANS.weight * penalty).view(1),  # the weight counts twice
        "lecam_ema_real_after": torch.tensor(after.real),
        "lecam_ema_fake_after": torch.tensor(after.fake),
    }
    return {f"gan.{name}": value.reshape(stored[f"gan.{name}"].shape) for name, value in found.items()}


def _start(config: network.LARPConfig, stored: Stored) -> dict[str, Tensor]:
    """Standard deviations of the published start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = network.LARP(config)
        network.initialise(fresh)
    names = [name.removeprefix("init_std.") for name in stored if name.startswith("init_std.")]
    own = dict(fresh.named_parameters())
    return {f"init_std.{name}": own[name].detach().std() for name in names if name in own}
