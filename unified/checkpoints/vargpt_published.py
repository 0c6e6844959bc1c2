"""VARGPT-v1.1's published weights: folders, names and training losses.

Source: VARGPT-family/VARGPT-v1.1 (Apache-2.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from unified.checkpoints import infinity_tokenizer
from unified.checkpoints.folder import is_vargpt, read_config
from unified.checkpoints.infinity_published import renamed as renamed_decoder
from unified.checkpoints.state_dict import check_fit, read_safetensors
from unified.checkpoints.vargpt import VARGPT, Forced
from unified.checkpoints.vargpt_config import VARGPTConfig, read, written
from unified.layout.layout import IGNORED
from unified.text_files import content_of, read_object

WEIGHTS = ("model.safetensors", "weights.safetensors")
INDEX = "model.safetensors.index.json"
DECODER, TOKENIZER = "vargpt_gen.", "vae_local."
LANGUAGE = {"visual.": "language.model.visual.", "model.": "language.model.language_model.",
            "lm_head.": "language.lm_head."}  # fmt: skip
IMAGE_WEIGHT = 3.0  # of the loss of images beside that of text


# Folders ----------------------------------------------------------------------------------------------------


def load_folder(folder: Path, *, dtype: torch.dtype = torch.float32) -> VARGPT:
    """The model of a folder (config.json; weights whole or in shards) with its tokenizer, in eval mode; the
    tokenizer stays in float32. ValueError, in one line, for what is missing or does not fit."""
    folder = Path(folder)
    config = read_config(folder)
    if not is_vargpt(config):
        raise ValueError(f"{folder}: config.json is not that of VARGPT: it has no image_gen_start_token_id")
    with content_of(folder / "config.json"):
        sizes, chunk = read(config), chunk_of(config)
    return load(sizes, read_state(folder), chunk, dtype=dtype)


def chunk_of(config: Mapping[str, Any]) -> int:
    """How many blocks the published names put into each of the decoder's chunks: released, 32 in 8."""
    options = config.get("visual_decoder")
    if not isinstance(options, Mapping):
        return 4
    chunk: int = options["depth"] // options.get("block_chunks", 1)
    return chunk


def read_state(folder: Path) -> dict[str, Tensor]:
    """All tensors by their published names. ValueError (one line) for a missing or damaged file."""
    index = folder / INDEX
    if index.is_file():
        with content_of(index):
            names = sorted(set(read_object(index)["weight_map"].values()))
        return {name: value for part in names for name, value in read_safetensors(folder / part).items()}
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"{folder}: no weights ({' or '.join((INDEX, *WEIGHTS))})")
    return read_safetensors(found)


def load(
    config: VARGPTConfig, state_dict: Mapping[str, Tensor], chunk: int, *, dtype: torch.dtype = torch.float32
) -> VARGPT:
    """A model from its published weights (copies). `chunk`: blocks of the decoder in each of its chunks.
    ValueError with a short reason if they do not fit."""
    own = _below(state_dict, TOKENIZER)
    tokenizer = infinity_tokenizer.load(config.tokenizer, own)
    found = renamed({k: v for k, v in state_dict.items() if not k.startswith(TOKENIZER)}, chunk)
    with torch.device("meta"):
        model = VARGPT(config)
    check_fit(model.state_dict(), found)
    copies = {name: value.to(dtype, copy=True) for name, value in found.items()}
    model.load_state_dict(copies, assign=True)
    _make_tables(model)
    model.join(tokenizer)
    return model.eval()


def _make_tables(model: VARGPT) -> None:
    """Tables of rotary angles are no weights: they are still without values."""
    inner = model.language.model
    for owner in (inner.visual, inner.language_model):
        name = "rotary_pos_emb" if owner is inner.visual else "rotary_emb"
        setattr(owner, name, type(getattr(owner, name))(owner.config))


def renamed(state_dict: Mapping[str, Tensor], chunk: int) -> dict[str, Tensor]:
    """Published names -> ours."""
    found = {}
    for name, value in state_dict.items():
        prefix = next((theirs for theirs in LANGUAGE if name.startswith(theirs)), None)
        if prefix is not None:
            found[LANGUAGE[prefix] + name.removeprefix(prefix)] = value
        elif not name.startswith(DECODER):
            found[name] = value
    decoder = renamed_decoder(_below(state_dict, DECODER), chunk)
    return found | {f"decoder.{name}": value for name, value in decoder.items()}


def published_name(name: str) -> str:
    """The inverse, with the decoder's blocks in one chunk (`blocks.N`): a parameter's published name."""
    for theirs, ours in LANGUAGE.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    if name.startswith("decoder."):
        name = name.removeprefix("decoder.").removeprefix("text.")
        return DECODER + name.replace("head.projection.", "head.")
    return name


def save_folder(folder: Path, model: VARGPT, dtype: torch.dtype | None = None) -> None:
    """Write config.json and model.safetensors under published names; `dtype`: of the weights, theirs by
    default."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {published_name(name): value for name, value in model.state_dict().items()}
    state |= {DECODER + name: value for name, value in _key_biases(model).items()}
    state = {name: value.to(dtype) if dtype else value for name, value in state.items()}
    state |= {f"{TOKENIZER}{name}": value for name, value in _of_tokenizer(model).items()}
    kept = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(kept, folder / WEIGHTS[0], metadata={"format": "pt"})
    text = json.dumps(written(model.sizes), indent=1)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def _key_biases(model: VARGPT) -> dict[str, Tensor]:
    """The published code keeps a buffer of zeros, the keys' bias, beside every bias of values."""
    state = model.decoder.state_dict()
    biases = {name: value for name, value in state.items() if name.endswith("v_bias")}
    return {
        name.removeprefix("text.").replace("v_bias", "zero_k_bias"): torch.zeros_like(value)
        for name, value in biases.items()
    }


def _of_tokenizer(model: VARGPT) -> dict[str, Tensor]:
    """With the wrappers `conv` and `norm` that published names have around every layer."""
    found = {}
    for name, value in model.tokenizer.state_dict().items():
        stem, _, kind = name.rpartition(".")
        wrapper = "norm" if re.search(r"norm(\d|_out)$", stem) else "conv"
        found[f"{stem}.{wrapper}.{kind}"] = value
    bits = model.tokenizer.config.bits
    found["quantizer.lfq.mask"] = torch.tensor([2**place for place in reversed(range(bits))])
    return found


def _below(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}


# Losses -----------------------------------------------------------------------------------------------------


def text_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of labels [B, T] that stand at the ids themselves (IGNORED: no target) under logits
    [B, T, V] of the id before."""
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def bit_loss(logits: Tensor, bits: Tensor) -> Tensor:
    """Mean two-way cross entropy over drawings, slots and bits: logits [N, L, S, 2], bits [N, L, S]."""
    return F.cross_entropy(logits.flatten(0, 2).float(), bits.flatten())


def published_labels(model: VARGPT, ids: Tensor) -> Tensor:
    """What the published code trains text on where images are drawn: every id, prompts and padding
    included, but the slots of drawings."""
    return ids.masked_fill(ids == model.sizes.ids.pad, IGNORED)


def loss(forced: Forced, labels: Tensor, bits: Tensor | None, weight: float = IMAGE_WEIGHT) -> Tensor:
    """Text and, if something is drawn, `weight` times the image loss."""
    found = text_loss(forced.text, labels)
    if bits is None or forced.drawn is None:
        return found
    return found + weight * bit_loss(forced.drawn.bits, bits)


def image_log_probs(logits: Tensor, bits: Tensor) -> Tensor:
    """[N]: log-probability of each drawing, the sum over its slots and bits, in float32: logits [N, L, S, 2],
    bits [N, L, S]. What preference tuning compares (arXiv 2504.02949)."""
    likely = logits.float().log_softmax(dim=-1).gather(-1, bits[..., None])
    return likely.flatten(1).sum(dim=1)
