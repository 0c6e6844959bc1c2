"""Selftok's tokenizer against a golden folder (`python -m unified.checkpoints verify`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.cases import checked
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.image_networks import levels_of
from unified.checkpoints.selftok import network
from unified.checkpoints.selftok import schedule as schedules
from unified.checkpoints.selftok.quantiser import TrainingConfig
from unified.checkpoints.state_dict import load_strict

INPUTS = ("latent", "noise", "t", "schedule.t", "schedule.normal_t", "schedule.discrete_max_t",
          "q1.features", "q1.upstream", "q2.features", "q2.upstream")  # fmt: skip
Stored = Mapping[str, Tensor]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer."""
    return config.get("case") == "selftok"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def load(folder: Path) -> network.Selftok:
    """The tokenizer of a golden folder, in eval mode."""
    config = read_config(folder)
    state = read_state(folder, config)
    tokenizer = network.Selftok(config_of(config, state))
    load_strict(tokenizer, state)
    return tokenizer.eval()


def config_of(config: Mapping[str, Any], state: Stored) -> network.SelftokConfig:
    """Sizes come from the weights, heads from the options."""
    names, encoder = set(state), config["enc"]
    width, channels, patch, _ = state["encoder.x_embedder.proj.weight"].shape
    _, codes, query = state["encoder.query_tokens"].shape
    _, entries, dim = state["encoder.quantizer._codebook.embed"].shape
    wide = len(state["model.x_embedder.proj.weight"])
    side = int(state["model.pos_embed"].shape[1] ** 0.5)
    return network.SelftokConfig(
        latent=(channels, int(state["encoder.pos_embed"].shape[1] ** 0.5) // 2),
        patch=patch,
        codes=codes,
        codebook=(entries, dim),
        streams=((width, encoder["num_heads"]), (query, encoder["query_heads"])),
        context=len(state["encoder.quantizer.project_out.weight"]),
        decoder=(wide, wide // config["dec_head_width"], side),
        depths=(levels_of(names, "encoder.blocks."), levels_of(names, "model.joint_blocks.")),
    )


def _checks(folder: Path) -> Iterator[Check]:
    config, stored, tokenizer = read_config(folder), read_io(folder), load(folder)
    schedule = schedules.Schedule.parse(config["stages"], config["k_per_stage"])
    computed = {
        **_scheduled(schedule, config["steps"], stored),
        **_coded(tokenizer, schedule, config["steps"], stored),
        **_trained(tokenizer, config, stored),
    }
    detached = {name: value.detach() for name, value in computed.items()}
    yield from compare(
        stored, detached, INPUTS.__contains__, lambda name: Tolerance(1e-5 if name.startswith("q") else 1e-4)
    )


def _scheduled(schedule: schedules.Schedule, steps: int, stored: Stored) -> dict[str, Tensor]:
    """Which codes are visible when."""
    times, batch = stored["schedule.t"], len(stored["t"])
    path = torch.linspace(1, 0, steps + 1)
    index = schedule.index(schedules.STEPS * stored["t"])
    each = torch.stack([network.step_index(time, schedule) for time in path[:-1]])
    return {
        "schedule.uniform": schedules.UNIFORM.index(times),
        "schedule.staged": schedules.STAGED.index(times),
        "schedule.this_model": schedule.index(times),
        "schedule.normal": schedules.normal_index(stored["schedule.normal_t"]),
        "schedule.discrete_t_to_idx": schedules.table_index(stored["schedule.discrete_max_t"]),
        "shift_t_1.878": schedules.shifted(torch.linspace(0, 1, 11), schedules.SHIFT),
        "scheduled_t": path,
        "timestep_map": schedules.STEPS * path[:-1],
        "t_index": index,
        "token_mask": schedules.visible(index, schedule.codes).to(torch.uint8),
        "sample.token_index_per_step": each[:, None].expand(-1, batch),
    }


@torch.no_grad()
def _coded(
    tokenizer: network.Selftok, schedule: schedules.Schedule, steps: int, stored: Stored
) -> dict[str, Tensor]:
    encoder, decoder = tokenizer.encoder, tokenizer.model
    latent, noise, times = stored["latent"], stored["noise"], stored["t"]
    queries = encoder.queries(latent)
    vectors = encoder.quantizer.vectors(queries)
    ids = encoder.quantizer.ids(vectors)
    tokens = encoder.tokens(ids)
    seen = schedules.visible(schedule.index(schedules.STEPS * times), tokens.shape[1])
    x = schedules.noised(latent, noise, times)
    given = tokens * seen[..., None]
    velocity = decoder(x, times, given, seen)
    return {
        "enc_patches": encoder.patches(latent),
        "enc_queries": queries,
        "z_normalised": vectors,
        "ids": ids,
        "tokens_out": tokens,
        "tokens_from_ids": encoder.tokens(encoder.encode(latent)),
        "masked_tokens": given,
        "x_t": x,
        "dec.velocity_see": velocity,
        "dec.velocity_blind": decoder(x, times, given, seen, context_sees=False),
        "dec.loss_per_sample": network.velocity_loss(velocity, latent, noise),
        "sample.latent": network.sample(decoder, noise, tokens, schedule, steps),
    }


def _trained(tokenizer: network.Selftok, config: Mapping[str, Any], stored: Stored) -> dict[str, Tensor]:
    """Two training steps of the quantiser, one after the other."""
    options = TrainingConfig(
        decay=config["decay"],
        commit=config["w_commit"],
        diversity=config["w_diversity"],
        mixed=config["ema_entropy_ratio"],
        limits=tuple(config["reg"]),
    )
    quantiser = tokenizer.encoder.quantizer
    found: dict[str, Tensor] = {}
    book = quantiser._codebook
    for name in ("q1", "q2"):
        features = stored[f"{name}.features"].clone().requires_grad_()
        step = quantiser.step(features, options)
        total = step.loss + (step.output * stored[f"{name}.upstream"]).sum()
        parts = {
            "ids": step.ids,
            "out": step.output,
            "loss": step.loss.view(1),
            "commit": step.commit,
            "codebook_entropy": step.place_entropy,
            "deterministic_entropy": step.certainty,
            "group_perplexity": step.perplexity,
            "delta_embed": step.change,
            "grad_features": torch.autograd.grad(total, features)[0],
            "embed": book.embed.clone(),
            "embed_avg": book.embed_avg.clone(),
            "cluster_size": book.cluster_size.clone(),
            "timestep_p": book.timestep_p_over_c.clone(),
        }
        found |= {f"{name}.{part}": value for part, value in parts.items()}
    return found
