"""Golden folders of Infinity's transformer (`infinity_transformer`, with patchify or without): one teacher-
forced pass with its inner values, and the published runs of generation.

What a run's name does not say is fixed by the folder's description: the scales of guidance, the temperature.
Tolerances are those measured there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import infinity_decoder
from unified.checkpoints.check import Check, close
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.generation import Generated
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_decoder import DecoderConfig, InfinityDecoder, to_bytes
from unified.checkpoints.infinity_generation import Habits, LayerGuidance, generate
from unified.checkpoints.infinity_published import load as load_transformer
from unified.checkpoints.infinity_rope import rotations
from unified.checkpoints.infinity_trace import traced
from unified.checkpoints.state_dict import read_weights
from unified.checkpoints.transformer_verify import needed
from unified.decoding.guidance import Constant, Guidance, PerStep
from unified.decoding.noise import GeneratorNoise
from unified.decoding.sampling import Sampler
from unified.orders.shapes import Shapes, as_shapes

LOGITS = Tolerance(2e-4)
VALUES = Tolerance(1e-4)
# Both sides round to bfloat16, whose steps near 1 are 0.0078, but not everywhere alike.
ROUNDED = Tolerance(6e-3)
TAU, TOP_K, TOP_P, SEED = 0.8, 900, 0.97, 1234  # of the sampled run


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this transformer."""
    options = config.get("transformer")
    return isinstance(options, dict) and "text_channels" in options and config.get("case") != "varedit"


def load(folder: Path, **more: Any) -> Infinity:
    """The transformer of a golden folder; `more` are further fields of its config. ValueError with a short
    reason if anything does not fit."""
    config = read_config(folder)
    found = below(read_weights(Path(folder) / "weights.safetensors"), "transformer.")
    return load_transformer(config["transformer"], found, of_vae(config)["codebook_dim"], **more)


def load_decoder(folder: Path) -> InfinityDecoder:
    """The decoder of its tokenizer."""
    options = of_vae(read_config(folder))
    config = DecoderConfig(
        latent=options["codebook_dim"],
        patch=options["patch_size"],
        width=options["base_ch"],
        multipliers=tuple(options["decoder_ch_mult"]),
        blocks=options["num_res_blocks"],
    )
    return infinity_decoder.load(config, below(read_weights(Path(folder) / "weights.safetensors"), "vae."))


def read_texts(folder: Path) -> tuple[list[Tensor], Tensor | None]:
    """The features [n, Ct] of its texts, and of the negative text if it has one."""
    stored = read_io(folder)
    texts = needed(stored, "text.kv_compact").split(needed(stored, "text.lens").tolist())
    return list(texts), stored.get("neg_text.kv_compact")


def of_vae(config: Mapping[str, Any]) -> dict[str, Any]:
    options = config.get("vae")
    wanted = ("codebook_dim", "patch_size", "base_ch", "num_res_blocks", "decoder_ch_mult")
    missing = [name for name in wanted if not isinstance(options, dict) or name not in options]
    if missing or not isinstance(options, dict):
        raise ValueError(f"the vae of config.json lacks {', '.join(missing)}")
    return options


def below(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What stands under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored, model = read_config(folder), read_io(folder), load(folder)
    shapes = as_shapes(needed(stored, "scale_schedule")[:, 1:].tolist())
    texts, negative = read_texts(folder)
    computed = _tables(model, stored, shapes)
    if "tf.latent" in stored:
        computed |= traced(model, texts, stored["tf.latent"], shapes, int(config.get("save_tokens", 24)))
    decoder = load_decoder(folder)
    scales = tuple(config.get("sample_cfg_list", (1.0,) * len(shapes)))
    for name, run in _runs(scales, model.config.depth, negative).items():
        if any(stored_name.startswith(f"{name}.") for stored_name in stored):
            computed |= cut(stored, _generated(model, decoder, texts[:1], shapes, name, run))
    floats = {name: value for name, value in stored.items() if name not in computed or not _is_image(name)}
    yield from compare(floats, computed, _is_input, _tolerance)
    for name in stored.keys() - floats.keys():  # truncation turns the smallest errors into a whole level
        yield close(name, computed[name], stored[name], atol=1)


def _is_image(name: str) -> bool:
    return name.endswith(".image_uint8_bgr")


def _is_input(name: str) -> bool:
    return name in ("tf.latent", "scale_schedule") or name.startswith(("text.", "neg_text."))


def _tolerance(name: str) -> Tolerance:
    if name == "tf.logits_bf16_cross_attention":
        return ROUNDED
    if name.endswith(".image_mean"):
        return Tolerance(1e-2)
    return LOGITS if "logits" in name else VALUES


def _tables(model: Infinity, stored: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
    config = model.config
    cos, sin = rotations(shapes, config.width // config.heads, config.rope)
    return {"rope.cos": cos, "rope.sin": sin}


# Generation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """How one image was made; `tau` divides the logits that are stored."""

    guidance: Guidance | None
    habits: Habits
    negative: Tensor | None = None
    tau: float = 1.0


def _runs(scales: tuple[float, ...], depth: int, negative: Tensor | None) -> dict[str, Run]:
    """By name. `scales`: of guidance, for each map of the sampled run."""
    layer = LayerGuidance((2.0,) * len(scales), depth - 2)
    noise = GeneratorNoise(torch.Generator().manual_seed(SEED))
    sampler = Sampler(temperature=TAU, top_k=TOP_K, top_p=TOP_P)
    greedy = Habits()
    runs = {
        "greedy_cfg": Run(Constant(3.0), greedy),
        "greedy_nocfg": Run(None, greedy),
        "greedy_cfg_layer": Run(layer, Habits(parts=(layer,))),
        "sampled": Run(PerStep(scales), Habits(sampler=sampler, noise=noise), tau=TAU),
    }
    if negative is not None:
        runs["greedy_negative_text"] = Run(Constant(3.0), greedy, negative)
    return runs


def _generated(
    model: Infinity, decoder: InfinityDecoder, texts: list[Tensor], shapes: Shapes, name: str, run: Run
) -> dict[str, Tensor]:
    negative = None if run.negative is None else [run.negative]
    made = generate(model, texts, shapes, run.guidance, negative=negative, habits=run.habits)
    summed = model.grid.summed(torch.cat(made.vectors, dim=1), shapes)
    with torch.no_grad():
        image = to_bytes(decoder(summed))
    return {
        f"{name}.bits": bits_of(model, made, shapes).to(torch.uint8),
        f"{name}.logits_after_cfg_tau": torch.cat(made.logits, dim=1) / run.tau,
        f"{name}.summed_codes": summed,
        f"{name}.image_uint8_bgr": image,
        f"{name}.image_mean": image.float().mean()[None],
    }


def bits_of(model: Infinity, made: Generated, shapes: Shapes) -> Tensor:
    """[B, cells, d]: of the cells of all maps, row by row."""
    found = []
    for codes, shape in zip(made.codes, shapes, strict=True):
        symbols = model.head.to_symbols(codes).float()
        found.append(model.grid.to_map(symbols, shape).flatten(2).transpose(1, 2))
    return torch.cat(found, dim=1)


def cut(stored: Mapping[str, Tensor], computed: dict[str, Tensor]) -> dict[str, Tensor]:
    """Logits of as many first tokens as are stored."""
    for name in computed:
        if name.endswith(".logits_after_cfg_tau") and name in stored:
            computed[name] = computed[name][:, : stored[name].shape[1]]
    return computed
