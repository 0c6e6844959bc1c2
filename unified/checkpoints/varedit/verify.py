"""Golden folders of VAREdit (`varedit`): one teacher-forced pass with its inner values, and runs of
generation.

What a run's name does not say is fixed by the folder's description: the scales of guidance, the temperature.
Tolerances are those recommended there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints.check import Check, close
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.generation import Generated
from unified.checkpoints.infinity_config import config_from
from unified.checkpoints.infinity_decoder import to_bytes
from unified.checkpoints.infinity_generation import Habits
from unified.checkpoints.infinity_published import filled, training_loss
from unified.checkpoints.infinity_rope import rotations
from unified.checkpoints.infinity_schedules import full_grid, nearest_ratio, schedules
from unified.checkpoints.infinity_verify import below, bits_of, cut, load_decoder, of_vae, read_texts
from unified.checkpoints.state_dict import read_weights
from unified.checkpoints.transformer_verify import needed
from unified.checkpoints.varedit.network import VAREdit, shifted, table_of
from unified.checkpoints.varedit.sampling import edit
from unified.decoding.guidance import Constant, Guidance, PerStep
from unified.decoding.noise import GeneratorNoise
from unified.decoding.sampling import Sampler
from unified.orders.shapes import Shapes, as_shapes

LOGITS = Tolerance(2e-4)
VALUES = Tolerance(1e-4)
CFG, SAMPLED_CFG, TAU, SEED = 3.0, 4.0, 0.5, 99
SAMPLED = Sampler(temperature=TAU, top_k=900, top_p=0.97)
INPUTS = ("scale_schedule", "src_latent", "tgt_latent", "text.kv_compact", "text.lens", "rope_1M.rows")
RUNS = ("greedy_cfg", "greedy_nocfg", "sampled")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this transformer."""
    return config.get("case") == "varedit" and isinstance(config.get("transformer"), dict)


def load(folder: Path, shapes: Shapes) -> VAREdit:
    """The transformer of a golden folder. ValueError with a short reason if anything does not fit."""
    config = read_config(folder)
    options = config["transformer"]
    state = below(read_weights(Path(folder) / "weights.safetensors"), "transformer.")
    with torch.device("meta"):
        model = VAREdit(config_from(options, of_vae(config)["codebook_dim"]), shapes)
    return filled(model, options, state)


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    shapes = as_shapes(needed(stored, "scale_schedule")[:, 1:].tolist())
    model, (texts, _) = load(folder, shapes), read_texts(folder)
    latents = needed(stored, "src_latent"), needed(stored, "tgt_latent")
    computed = {
        **_tables(model, stored),
        **_forced(model, texts, latents, int(config.get("save_tokens", 16))),
    }
    for name in RUNS:
        if any(stored_name.startswith(f"{name}.") for stored_name in stored):
            made = _generated(model, texts[:1], latents[0][:1], config, name)
            computed |= cut(stored, _outputs(folder, model, name, made))
    floats = {name: value for name, value in stored.items() if not name.endswith(".image_uint8_bgr")}
    yield from compare(floats, computed, INPUTS.__contains__, _tolerance)
    for name in stored.keys() - floats.keys():  # truncation turns the smallest errors into a whole level
        yield close(name, computed[name], stored[name], atol=1)


def _tolerance(name: str) -> Tolerance:
    return LOGITS if "logits" in name else VALUES


def _tables(model: VAREdit, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The rows in use, and some of the table of one megapixel."""
    shapes, width = model.shapes, model.config.width // model.config.heads
    found = dict(zip(("rope.cos", "rope.sin"), table_of(shapes, width), strict=True))
    rows = stored.get("rope_1M.rows")
    if rows is not None:
        maps = schedules()[nearest_ratio(shapes[-1][0] / shapes[-1][1])]
        for number, name in enumerate(("cos", "sin")):
            parts = (shifted(full_grid(shapes), width)[number], rotations(maps, width)[number])
            found[f"rope_1M.{name}"] = torch.cat(parts)[rows]
    return found


# Training pass ----------------------------------------------------------------------------------------------


@torch.no_grad()
def _forced(
    model: VAREdit, texts: list[Tensor], latents: tuple[Tensor, Tensor], save: int
) -> dict[str, Tensor]:
    """Tokens and labels, hidden states of some tokens, logits and loss of a teacher-forced pass."""
    tokens, shapes = model.source_tokens(latents[0]), model.shapes
    labels = model.grid.labels(latents[1], shapes)
    vectors = model.grid.transformer_inputs(labels, shapes)
    kept: dict[str, list[Tensor]] = {}
    handles = _watch(model, kept)
    logits = model(texts, vectors, shapes, tokens)
    for handle in handles:
        handle.remove()
    found = {
        "src_tokens": tokens,
        "tgt_tokens": vectors,
        "tgt_labels": labels.to(torch.uint8),
        "tf.logits": logits.flatten(-2),
        "tf.loss_mean": training_loss(logits, labels, shapes, by_scale=False),
    }
    for name, (source, target) in kept.items():  # the source is run before the maps
        found[f"tf.{name}_source_head"] = source[:, :save]
        found[f"tf.{name}_target_head"] = target[:, :save]
        found[f"tf.{name}_target_tail"] = target[:, -save:]
    return found


def _watch(model: VAREdit, kept: dict[str, list[Tensor]]) -> list[Any]:
    """Record input and output of the first self-attention, and each block's output, of every pass."""

    def output(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
            kept.setdefault(name, []).append(found)

        return hook

    def keep_input(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        kept.setdefault("sar_in", []).append(given[0])

    first = model.layers()[0].sa
    handles = [first.register_forward_pre_hook(keep_input), first.register_forward_hook(output("sar_out"))]
    blocks = enumerate(model.layers())
    return handles + [block.register_forward_hook(output(f"block{n}_out")) for n, block in blocks]


# Generation -------------------------------------------------------------------------------------------------


def _generated(
    model: VAREdit, texts: list[Tensor], source: Tensor, config: Mapping[str, Any], name: str
) -> Generated:
    guidance: Guidance | None = Constant(CFG) if name == "greedy_cfg" else None
    habits = Habits()
    if name == "sampled":
        scales = config.get("sample_cfg_list")
        guidance = PerStep(tuple(scales)) if scales else Constant(SAMPLED_CFG)
        habits = Habits(sampler=SAMPLED, noise=GeneratorNoise(torch.Generator().manual_seed(SEED)))
    return edit(model, texts, source, guidance, habits=habits)


def _outputs(folder: Path, model: VAREdit, name: str, made: Generated) -> dict[str, Tensor]:
    logits = torch.cat(made.logits, dim=1) / (TAU if name == "sampled" else 1.0)
    found = {
        f"{name}.bits": bits_of(model, made, model.shapes).to(torch.uint8),
        f"{name}.logits_after_cfg_tau": logits,
    }
    summed = model.grid.summed(torch.cat(made.vectors, dim=1), model.shapes)
    with torch.no_grad():
        return {**found, f"{name}.image_uint8_bgr": to_bytes(load_decoder(folder)(summed))}
