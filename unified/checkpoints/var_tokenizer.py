"""The published VAR tokenizer: its options, its names for weights, and the comparison with its outputs.

Source: FoundationVision/VAR (MIT), models/vqvae.py and models/quant.py. The released model has
`vocab_size=4096, z_channels=32, ch=160`; with the options alone (no `encoder_decoder_kwargs`) the structure
is the hard-coded one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare, input_image, weights_check
from unified.checkpoints.folder import (
    check_normalisation,
    has_formula,
    options,
    read_config,
    read_io,
    read_state,
)
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.phi import PhiConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.resize import Shape, as_shapes, unflatten

QUANTISER = {
    "vocab_size": 4096,
    "z_channels": 32,
    "ch": 128,
    "dropout": 0.0,
    "beta": 0.25,
    "using_znorm": False,
    "quant_conv_ks": 3,
    "quant_resi": 0.5,
    "share_quant_resi": 4,
    "default_qresi_counts": 0,
    "v_patch_nums": (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    "test_mode": True,
}
NETWORK = {
    "ch_mult": (1, 1, 2, 2, 4),
    "num_res_blocks": 2,
    "in_channels": 3,
    "dropout": None,
    "ch": None,
    "z_channels": None,
    "using_sa": True,
    "using_mid_sa": True,
    "double_z": False,
}
HITS = "quantize.ema_vocab_hit_SV"


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer (and no transformer)."""
    return "vqvae_kwargs" in config and "var_kwargs" not in config


def config_from(config: Mapping[str, Any]) -> ResidualVQConfig:
    """Published options (`vqvae_kwargs`, `encoder_decoder_kwargs`) -> ours. ValueError for what cannot be
    built."""
    check_normalisation(config)
    own = options(config, "vqvae_kwargs", QUANTISER)
    network = options(config, "encoder_decoder_kwargs", NETWORK)
    if network["double_z"]:
        raise ValueError("double_z is for continuous autoencoders: a quantiser reads z_channels channels")
    for name in ("ch", "z_channels", "dropout"):
        network[name] = own[name] if network[name] is None else network[name]
    sizes = own["v_patch_nums"]
    return ResidualVQConfig(
        codes=own["vocab_size"],
        network=NetworkConfig(
            latent=network["z_channels"],
            width=network["ch"],
            multipliers=tuple(network["ch_mult"]),
            blocks=network["num_res_blocks"],
            attention=network["using_sa"],
            middle_attention=network["using_mid_sa"],
            dropout=network["dropout"],
            channels=network["in_channels"],
        ),
        sizes=tuple(sizes),
        phi=PhiConfig(
            count=own["share_quant_resi"] or own["default_qresi_counts"] or len(sizes),
            blend=own["quant_resi"],
        ),
        kernel=own["quant_conv_ks"],
        cosine=own["using_znorm"],
        commitment=own["beta"],
    )


def load(config: Mapping[str, Any], state_dict: Mapping[str, Any]) -> ResidualVQTokenizer:
    """Build the tokenizer of a golden `config` and fill it from official names (wrappers are followed), in
    eval mode.

    Raises ValueError with a short reason if options or weights do not fit.
    """
    with torch.device("meta"):
        tokenizer = ResidualVQTokenizer(config_from(config))
    ours, sharing = tokenizer.state_dict(), sharing_of(config)
    expected, found = to_official(ours, sharing), unwrap(state_dict, "tokenizer")
    if HITS in found and found[HITS].ndim == 2 and len(found[HITS]) != len(expected[HITS]):
        found = {
            **found,
            HITS: torch.zeros(expected[HITS].shape),
        }  # statistics of another schedule are not taken over
    check_fit(expected, found)
    names = _names(ours, sharing)
    filled = {
        name: _part(found[official], part).to(ours[name].dtype) for name, (official, part) in names.items()
    }
    tokenizer.load_state_dict(filled, assign=True)
    return tokenizer.eval()


def export(tokenizer: ResidualVQTokenizer, sharing: int | None = None) -> dict[str, Tensor]:
    """The tokenizer's weights under the official names; see `to_official` for `sharing`."""
    sharing = len(tokenizer.phi) if sharing is None else sharing
    return to_official(tokenizer.state_dict(), sharing)


def to_official(values: Mapping[str, Tensor], sharing: int) -> dict[str, Tensor]:
    """Values by our names (weights or gradients) -> by official names. `sharing` is the option
    `share_quant_resi`."""
    parts: dict[str, list[Tensor]] = {}
    for name, (official, _) in _names(values, sharing).items():
        parts.setdefault(official, []).append(values[name])
    return {official: torch.cat(items) if len(items) > 1 else items[0] for official, items in parts.items()}


def sharing_of(config: Mapping[str, Any]) -> int:
    return options(config, "vqvae_kwargs", QUANTISER)["share_quant_resi"]


def _names(ours: Mapping[str, Tensor], sharing: int) -> dict[str, tuple[str, int | None]]:
    """Our name -> (official name, third of it): the published q, k and v are one convolution."""
    levels = 1 + max((int(name.split(".")[2]) for name in ours if name.startswith("decoder.up.")), default=0)
    return {name: _official(name, levels, sharing) for name in ours}


def _official(name: str, levels: int, sharing: int) -> tuple[str, int | None]:
    if name == "table.weight":
        return "quantize.embedding.weight", None
    if name == "hits":
        return HITS, None
    if name.startswith("phi."):
        _, j, rest = name.split(".")
        holder = {0: j, 1: "qresi"}.get(sharing, f"qresi_ls.{j}")
        return f"quantize.quant_resi.{holder}.{rest}", None
    # Levels of the decoder are stored by resolution, not in the order in which they run.
    name = re.sub(r"^decoder\.up\.(\d+)", lambda match: f"decoder.up.{levels - 1 - int(match[1])}", name)
    third = re.search(r"(attn\.\d+|attn_1)\.([qkv])\.", name)
    if third is None:
        return name, None
    return name.replace(third[0], f"{third[1]}.qkv."), "qkv".index(third[2])


def _part(value: Tensor, part: int | None) -> Tensor:
    return (value if part is None else value.chunk(3)[part]).to(torch.float32, copy=True).contiguous()


# Verification ---------------------------------------------------------------------------------


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    state_dict = read_state(folder, config)
    tokenizer = load(config, state_dict)
    computed = {**_encoded(tokenizer, stored), **weights_check(config, state_dict)}
    computed |= _decoded(tokenizer, computed) if _any(stored, "rec_", "var_input", "ar_step.") else {}
    computed |= _alternatives(tokenizer, config, stored)
    computed |= _trained(tokenizer, stored, sharing_of(config)) if _any(stored, "train.") else {}
    loose = has_formula(folder, config)
    tolerance = _tolerance(tokenizer.shapes, loose)
    yield from compare(stored, computed, _is_input, tolerance)


def _is_input(name: str) -> bool:
    return name == "image" or (name.startswith("alt.") and name.endswith(".image"))


def _tolerance(shapes: list[Shape], loose: bool) -> Any:
    """The measured ones of the folders' README; `loose` is the case with formula weights."""

    def of(name: str) -> Tolerance:
        if name.startswith("weights_check."):
            return Tolerance(1e-6, 1e-9)
        step = name.removeprefix("rec_multi_shape.")
        if step != name and step.isdigit() and int(step) < len(shapes) and shapes[int(step)] == (1, 1):
            return Tolerance(2e-3)  # normalisation of a 1 x 1 map amplifies rounding by up to 1e3
        if loose or "rec" in name or name.startswith("train.grad.") or name == "decoder_out_unclamped":
            return Tolerance(1e-4)
        return Tolerance(1e-5, 1e-4)

    return of


def _any(stored: Mapping[str, Tensor], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in stored)


def _numbered(prefix: str, values: list[Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{s}": value for s, value in enumerate(values)}


@torch.no_grad()
def _encoded(tokenizer: ResidualVQTokenizer, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    image = input_image(stored, "image")
    latent = tokenizer.latent(image)
    codes = tokenizer.quantise(latent, tokenizer.shapes)
    return {
        "encoder_out": tokenizer.encoder(image),
        "latent_f": latent,
        "f_hat_last": codes.totals[-1],
        "decoder_out_unclamped": tokenizer.decode_unclamped(codes.totals[-1]),
        **_numbered("idx", codes.ids),
        **_numbered("f_hat", codes.totals),
    }


@torch.no_grad()
def _decoded(tokenizer: ResidualVQTokenizer, encoded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything that starts from the ids of the default schedule."""
    shapes = tokenizer.shapes
    ids = [encoded[f"idx.{s}"] for s in range(len(shapes))]
    images = [tokenizer.decode_vectors(total) for total in tokenizer.totals(ids, shapes)]
    found = {
        **_numbered("rec_same_shape", images),
        "rec_last": tokenizer.decode(ids, shapes),
        **_numbered("rec_multi_shape", tokenizer.decode_own_sizes(ids, shapes)),
        "var_input": tokenizer.transformer_inputs(ids, shapes),
    }
    total = torch.zeros_like(encoded["f_hat.0"])
    for step, shape in enumerate(shapes):
        h = unflatten(tokenizer.vectors(ids[step]), shape)
        following = shapes[step + 1] if step + 1 < len(shapes) else None
        total, fed = tokenizer.accumulate(total, h, step, len(shapes), following)
        found |= {f"ar_step.{step}.h": h, f"ar_step.{step}.f_hat": total, f"ar_step.{step}.next": fed}
    return found


@torch.no_grad()
def _alternatives(
    tokenizer: ResidualVQTokenizer, config: Mapping[str, Any], stored: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, sizes in config.get("alt_schedules", {}).items():
        prefix = f"alt.{name}"
        if not _any(stored, prefix + "."):
            continue
        image = stored.get(f"{prefix}.image", stored.get("image"))
        if image is None:
            raise ValueError(f"io.safetensors has no '{prefix}.image' to encode")
        codes = tokenizer.quantise(tokenizer.latent(image), as_shapes(sizes))
        images = [tokenizer.decode_vectors(total) for total in codes.totals]
        found |= {
            **_numbered(f"{prefix}.idx", codes.ids),
            **_numbered(f"{prefix}.f_hat", codes.totals),
            **_numbered(f"{prefix}.rec", images),
            f"{prefix}.rec_last": images[-1],
            f"{prefix}.latent_f": tokenizer.latent(image),
            f"{prefix}.var_input": tokenizer.transformer_inputs(codes.ids, as_shapes(sizes)),
        }
    return found


def _trained(tokenizer: ResidualVQTokenizer, stored: Mapping[str, Tensor], sharing: int) -> dict[str, Tensor]:
    """The training forward and the gradients of mean squared error + quantiser loss, by official parameter
    name."""
    image = input_image(stored, "image")
    tokenizer.zero_grad()
    latent = tokenizer.latent(image)
    latent.retain_grad()
    result = tokenizer.straight_through(latent, tokenizer.shapes)
    reconstruction = tokenizer.decode_unclamped(result.output)
    total = F.mse_loss(reconstruction, image) + result.loss
    total.backward()
    gradients = {name: p.grad for name, p in tokenizer.named_parameters() if p.grad is not None}
    official = {f"train.grad.{name}": value for name, value in to_official(gradients, sharing).items()}
    positions = len(image) * latent.shape[2] * latent.shape[3]
    return {
        "train.f_hat_ste": result.output.detach(),
        "train.rec": reconstruction.detach(),
        "train.vq_loss": result.loss.detach(),
        "train.loss_mse_plus_vq": total.detach(),
        "train.usages": tokenizer.usages(positions),
        **({} if latent.grad is None else {"train.grad.latent_f": latent.grad}),
        **official,
    }
