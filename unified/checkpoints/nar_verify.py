"""The published NAR transformers against a golden folder (`python -m unified.checkpoints verify`).

Tolerances are those recommended for the folders (`nar/README.md`); hidden states and caches were measured to
agree within 1e-5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unified.cache.kv_cache import KVCache
from unified.cache.policy import Full
from unified.checkpoints.check import Check, not_compared
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.nar import NARTransformer, training_loss
from unified.checkpoints.nar_blocks import rotary_table
from unified.checkpoints.nar_generation import NARWriter, Prompted, SlotNoise, UntilCount, sampler_of
from unified.checkpoints.nar_published import load as load_transformer
from unified.checkpoints.transformer_verify import needed
from unified.decoding.drawing import Choice
from unified.decoding.noise import Noise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.heads.distribution import Distribution, first_rows
from unified.layout.attention import attends
from unified.orders import Plan

CACHE_MULTIPLE = 8  # published caches are that much longer than what they hold
HEAD_NAMES = ("right", "below", "back")
VIDEO_HEAD_NAMES = ("right", "down", "back")
RUN = re.compile(
    r"gen\.(?P<run>.+?)\.(ids|guided_logits|raw_logits|cache_(?P<kind>[kv])\.layer(?P<layer>\d+))"
)
GREEDY = Sampler(temperature=0)


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this transformer."""
    model = config.get("model")
    return isinstance(model, dict) and ("medusa_attention_num" in model or "latent_shape" in model)


def load(folder: Path) -> NARTransformer:
    """The transformer of a golden folder. ValueError with a short reason if anything does not fit."""
    config = read_config(folder)
    return load_transformer(config["model"], read_state(folder, config))


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, model, stored = read_config(folder), load(folder), read_io(folder)
    computed, obstacles, runs = _forced(model, stored), {}, config.get("runs", {})
    for name in dict.fromkeys(match["run"] for match in map(RUN.fullmatch, stored) if match):
        obstacles[name] = _obstacle(runs.get(name))
        if not obstacles[name]:
            computed |= _generated(model, stored, name, runs[name])
    for check in compare(stored, computed, _is_input, _tolerance):
        match = RUN.fullmatch(check.name)
        reason = obstacles.get(match["run"], "") if match and check.ok is None else ""
        yield not_compared(check.name, reason) if reason else check


def _obstacle(run: Mapping[str, Any] | None) -> str:
    """Why a run cannot be repeated; empty if it can. ValueError for options that are missing."""
    if run is None:
        return "a run that config.json does not describe"
    for name in ("cfg_scale", "sample_logits"):
        if name not in run:
            raise ValueError(f"a run of config.json lacks {name}")
    unseeded = run["sample_logits"] and run.get("torch_manual_seed") is None
    return "sampled without a seed" if unseeded else ""


def _is_input(name: str) -> bool:
    return name in ("train.labels", "train.idx", "train.valid", "text.features", "text.mask")


def _tolerance(name: str) -> Tolerance:
    if name.startswith("train.grad"):
        return Tolerance(1e-5, 1e-3)
    if name == "rope.table":
        return Tolerance(1e-6)
    return Tolerance(1e-5) if name.startswith("train.loss") else Tolerance(2e-4)


# Training pass --------------------------------------------------------------------------------------------


def _forced(model: NARTransformer, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks, positions, and one teacher-forced pass on the stored codes with its gradients."""
    codes, mask = needed(stored, "train.idx"), stored.get("text.mask")
    given = needed(stored, "text.features" if model.config.caption_width else "train.labels")
    hidden: dict[str, Tensor] = {}
    handles = [layer.register_forward_hook(_keep(hidden, n)) for n, layer in enumerate(model.layers)]
    model.zero_grad()
    raw = model.raw_logits(given, codes, mask)
    for handle in handles:
        handle.remove()
    logits = model.mixed(raw)
    loss = training_loss(logits, codes)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    names = VIDEO_HEAD_NAMES if model.config.video else HEAD_NAMES
    heads = {f"logits_{name}": part.detach() for name, part in zip(names, raw, strict=False)}
    found = {
        **hidden,
        **heads,
        "logits": logits.detach(),
        "loss": loss.detach(),
        "loss_valid": training_loss(logits.detach(), codes, stored.get("train.valid")),
        **{f"grad.{name}": gradient for name, gradient in gradients.items()},
        "grad_norm_all": torch.stack([gradient.norm() for gradient in gradients.values()]).norm(),
    }
    return {**{f"train.{name}": value for name, value in found.items()}, **_tables(model, mask)}


def _keep(hidden: dict[str, Tensor], number: int) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        hidden[f"hidden.layer{number}"] = output.detach()

    return hook


def _tables(model: NARTransformer, mask: Tensor | None) -> dict[str, Tensor]:
    """Who sees whom, with and without the mask of captions, and rotary angles."""
    index, positions = model.sequence()
    found = {"train.mask": attends(index, index)[0]}
    if mask is not None:
        padded, _ = model.sequence(mask)
        found["train.mask_text"] = attends(padded, padded)
    if not model.config.video:
        found["rope.table"] = rotary_table(model.config, index, positions)[0]
    return found


# Generation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Generated:
    """`codes` [B, N] row by row; in the order in which they were written, `guided` [B, N, V] and, before
    guidance, `raw` logits [R, N, V] of the conditional rows and then of the null rows; `cache`: after the
    run."""

    codes: Tensor
    guided: Tensor
    raw: Tensor
    cache: KVCache


class Recording(Prompted):
    """Keeps what is predicted for every row before guidance, each [R, n, V]."""

    def write(self, plan: Plan, rows: int, condition: object = None) -> NARWriter:
        super().write(plan, rows, condition)
        writer = RecordingWriter(self.model, plan, rows)
        self.raw = writer.raw
        return writer


class RecordingWriter(NARWriter):
    def __init__(self, model: NARTransformer, plan: Plan, rows: int) -> None:
        super().__init__(model, plan, rows)
        self.raw: list[Tensor] = []

    def predict(self, step: int, states: Any, rows: int, before: Any) -> Distribution:
        everything = super().predict(step, states, len(states[0]), before)
        self.raw.append(everything.logits.squeeze(-2))  # type: ignore[attr-defined]
        return first_rows(everything, 0, rows)


def generate(told: Recording, prompts: list[list[int]], options: Mapping[str, Any]) -> Generated:
    """Write one image for each prompt, by the options of the published sampler."""
    noise: Noise | None = None
    sampler, scale = GREEDY, options["cfg_scale"]
    if options["sample_logits"]:
        noise = SlotNoise(torch.Generator().manual_seed(options["torch_manual_seed"]))
        given = {name: options[name] for name in ("temperature", "top_k", "top_p") if name in options}
        sampler = sampler_of(**given)
    guided: list[Tensor] = []

    def record(choice: Choice) -> Choice:
        guided.append(choice.logits.squeeze(-2))
        return choice

    session = Session(told, rows=len(prompts), noise=noise, policy=Full())
    session.feed(prompts)
    guidance = UntilCount(scale, options.get("cfg_interval", -1)) if scale > 1 else None
    order, shapes = told.model.order, told.model.config.shapes
    drawing = session.draw(shapes, order=order, sampler=sampler, guidance=guidance, hook=record)
    cache = session.context.cache
    return Generated(drawing.codes, torch.cat(guided, dim=1), torch.cat(told.raw, dim=1), cache)


def _generated(
    model: NARTransformer, stored: Mapping[str, Tensor], name: str, options: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The tensors of a run by the names they are stored under."""
    if model.config.caption_width:
        features, mask = needed(stored, "text.features"), needed(stored, "text.mask")
        told = Recording.by_caption(model, features, mask)
        prompts = list(told.prompts)
    else:
        told = Recording.by_class(model)
        prompts = [told.prompts[max(label, -1)] for label in options.get("labels") or ()]  # -1: no class
    made = generate(told, prompts, options)
    found = {"ids": made.codes, "guided_logits": made.guided, "raw_logits": made.raw}
    for match in map(RUN.fullmatch, stored):
        if match and match["run"] == name and match["kind"]:
            layer, kind = int(match["layer"]), match["kind"]
            found[f"cache_{kind}.layer{layer}"] = _cached(model, made.cache, layer, kind)
    return {f"gen.{name}.{what}": value for what, value in found.items()}


def _cached(model: NARTransformer, cache: KVCache, layer: int, kind: str) -> Tensor:
    """Keys ("k") or values ("v") of a layer [R, H, length, c] at the places of the sequence, as the published
    cache has them: zero where nothing was run, which is the last step (and here the padding of captions)."""
    plan, length, store = model.plan(), model.config.condition_length, cache.stores[layer]
    run = torch.cat([step.run for step in plan.steps])
    assert store.both is not None
    held = store.both["kv".index(kind)]  # [R, capacity, H, c]
    total = -(-(length + plan.length) // CACHE_MULTIPLE) * CACHE_MULTIPLE
    found = held.new_zeros(len(held), total, *held.shape[2:])
    for row, count in enumerate(cache.entries[layer].lengths.tolist()):
        condition = torch.arange(length - (count - len(run)), length)
        found[row, torch.cat([condition, length + run])] = held[row, :count]
    return found.transpose(1, 2)
