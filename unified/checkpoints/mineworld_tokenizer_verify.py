"""The published MineWorld tokenizer against ours: every tensor of a golden folder, of each of its configs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare, input_image
from unified.checkpoints.folder import prefixes, read_config
from unified.checkpoints.mineworld_tokenizer import MineWorldTokenizer, load, to_pixels
from unified.checkpoints.state_dict import read_safetensors, read_weights
from unified.tokenizers.images import to_images
from unified.tokenizers.resize import flatten, unflatten

ATOL = 2e-4
SHARE_OF_PIXELS = 1e-3  # whose cut-off value may differ by one


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer."""
    return "block_out_channels" in config and "num_vq_embeddings" in config


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output, of each config in the folder. ValueError for an unusable folder."""
    for prefix in prefixes(folder):
        tokenizer = load(read_config(folder, prefix), read_weights(folder / f"{prefix}weights.safetensors"))
        stored = read_safetensors(folder / f"{prefix}io.safetensors")
        computed = _computed(tokenizer, stored)
        pixels = computed.pop("decoded_u8")
        for check in compare(stored, computed, lambda name: name == "image_u8", lambda _: Tolerance(ATOL)):
            if check.name == "decoded_u8":
                check = _pixels(check.name, pixels, stored[check.name])
            yield Check(f"{prefix}{check.name}", check.ok, check.detail)


def _pixels(name: str, got: Tensor, want: Tensor) -> Check:
    if got.shape != want.shape:
        return Check(name, False, f"shape {tuple(got.shape)}, expected {tuple(want.shape)}")
    difference = (got.int() - want.int()).abs()
    share, worst = float((difference > 0).float().mean()), int(difference.max())
    ok = worst <= 1 and share <= SHARE_OF_PIXELS
    return Check(name, ok, f"{share:.2%} differ, by at most {worst} (1 in {SHARE_OF_PIXELS:.1%} allowed)")


@torch.no_grad()
def _computed(tokenizer: MineWorldTokenizer, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    images = to_images(input_image(stored, "image_u8").numpy())
    found: dict[str, Tensor] = {}
    handles = [module.register_forward_hook(_keep(found, name)) for name, module in _blocks(tokenizer)]
    encoded = tokenizer.encoder(images)
    latent = tokenizer.quant_conv(encoded)
    grid = (latent.shape[2], latent.shape[3])
    ids = tokenizer.encode(images)[0]
    quant = unflatten(tokenizer.vectors(ids), grid)
    parts = [tokenizer.decode_maps([one[None]], [grid]) for one in ids]  # images are decoded one by one
    for handle in handles:
        handle.remove()
    decoded = torch.cat(parts)
    straight = flatten(latent) + (flatten(quant) - flatten(latent))
    return found | {
        "encoder_out": encoded,
        "latent": latent,
        "token_ids": ids.unflatten(1, grid),
        "quantize_zq": unflatten(straight, grid),
        "quant": quant,
        "post_quant": tokenizer.post_quant_conv(quant),
        "decoded": decoded,
        "decoded_slice": decoded[:, :, ::8, ::8],
        "decoded_u8": to_pixels(decoded),
    }


def _blocks(tokenizer: MineWorldTokenizer) -> list[tuple[str, torch.nn.Module]]:
    """Whose outputs are stored, by the name they are stored under."""
    found: list[tuple[str, torch.nn.Module]] = []
    for half, network, levels, name in (
        ("enc", tokenizer.encoder, tokenizer.encoder.down_blocks, "down"),
        ("dec", tokenizer.decoder, tokenizer.decoder.up_blocks, "up"),
    ):
        found += [(f"act.{half}.conv_in", network.conv_in), (f"act.{half}.mid", network.mid_block)]
        found += [(f"act.{half}.{name}{number}", level) for number, level in enumerate(levels)]
    return found


def _keep(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: torch.nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        found[name] = output.detach()

    return hook
