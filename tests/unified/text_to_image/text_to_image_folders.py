"""Tiny published text-to-image models with random weights and official names, saved as folders."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer
from unified.tokenizers.vq import VQTokenizer

from unified.checkpoints import llamagen, llamagen_tokenizer
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_config import config_from as infinity_config
from unified.checkpoints.infinity_tokenizer import InfinityTokenizer, InfinityTokenizerConfig
from unified.checkpoints.nar import NARTransformer

INFINITY = {
    "text_channels": 128,
    "text_maxlen": 12,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "block_chunks": 2,
    "mlp_ratio": 8,
}
BITS = {
    "codebook_dim": 4,
    "patch_size": 2,
    "base_ch": 32,
    "num_res_blocks": 1,
    "encoder_ch_mult": [1, 1],
    "decoder_ch_mult": [1, 1],
}
SIZES = {"dim": 24, "n_layer": 2, "n_head": 3, "multiple_of": 8, "vocab_size": 32, "block_size": 16}
LLAMAGEN = {
    "class": {**SIZES, "num_classes": 5},
    "caption": {**SIZES, "model_type": "t2i", "cls_token_num": 10, "caption_dim": 16},
}
VQ = {
    "codebook_size": 32,
    "codebook_embed_dim": 8,
    "z_channels": 16,
    "ch": 32,
    "ch_mult": [1, 1],
    "num_res_blocks": 1,
}


def spread(module: nn.Module, deviation: float = 0.3, seed: int = 0) -> dict[str, Tensor]:
    """Random weights, so large that a condition changes what is drawn."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=rng))
    return {name: value.clone() for name, value in module.state_dict().items()}


def text_encoder(folder: Path, channels: int) -> Path:
    """A T5 encoder of one layer, with a tokenizer of letters and a few words."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_letters, *string.digits, "▁red", "▁blue", "▁cube"]
    words = T5Tokenizer(vocab=[(piece, -float(len(piece) < 3)) for piece in pieces], extra_ids=0)
    words.save_pretrained(folder)
    config = T5Config(
        vocab_size=len(words), d_model=channels, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    model = T5EncoderModel(config)
    spread(model, 0.5)
    model.save_pretrained(folder)
    return folder


def _official(name: str) -> str:
    """Our name of one of Infinity's weights -> the published one, blocks in chunks of one."""
    name = name.removeprefix("text.").replace("head.projection.", "head.")
    parts = name.split(".")
    return f"block_chunks.{parts[1]}.module.0.{'.'.join(parts[2:])}" if parts[0] == "blocks" else name


def _wrapped(name: str) -> str:
    """The same of its tokenizer, whose convolutions and norms lie in modules of their own."""
    module, kind = name.rsplit(".", 1)
    return f"{module}.{'norm' if 'norm' in module.rsplit('.', 1)[-1] else 'conv'}.{kind}"


def infinity(folder: Path, *, patchify: bool = False) -> Path:
    folder.mkdir(parents=True)
    options = {**INFINITY, "apply_spatial_patchify": int(patchify)}
    model = Infinity(infinity_config(options, BITS["codebook_dim"]))
    save_file(
        {_official(name): value for name, value in spread(model).items()}, folder / "transformer.safetensors"
    )
    fields: dict[str, Any] = {"bits": 4, "patch": 2, "width": 32, "blocks": 1, "patchify": patchify}
    tokenizer = InfinityTokenizer(InfinityTokenizerConfig(**fields, encoder=(1, 1), decoder=(1, 1)))
    wrapped = {_wrapped(name): value for name, value in spread(tokenizer, 0.1).items()}
    save_file(wrapped, folder / "tokenizer.safetensors")
    config = {"model_type": "infinity", "transformer": options, "tokenizer": BITS, "resolution": "0.06M"}
    write_config(folder, config)
    text_encoder(folder / "text_encoder", INFINITY["text_channels"])
    return folder


def llamagen_of(folder: Path, kind: str) -> Path:
    """`kind`: class or caption."""
    folder.mkdir(parents=True)
    options = LLAMAGEN[kind]
    model = NARTransformer(llamagen.config_from(options))
    torch.save({"model": spread(model, 0.5)}, folder / "transformer.pt")
    tokenizer = VQTokenizer(llamagen_tokenizer.config_from(VQ))
    spread(tokenizer, 0.2)
    torch.save({"ema": llamagen_tokenizer.export(tokenizer)}, folder / "vq_ds2.pt")
    files = {"tokenizer": "vq_ds2.pt"}
    write_config(folder, {"model_type": "llamagen", "transformer": options, "tokenizer": VQ, "files": files})
    if kind == "caption":
        text_encoder(folder / "text_encoder", options["caption_dim"])
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def read_config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found
