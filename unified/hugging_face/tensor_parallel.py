"""Tensor parallelism: a model whose layers are split over several processes, one a GPU, as in Megatron-LM
(Shoeybi et al., 2019).

Queries, keys, values and the first two products of the gated network are split by columns, so each process
has its own attention heads, their part of the KV cache, and inner units; the products behind them are split
by rows, and their sums are added over the processes. What is not in a layer (embeddings, heads, extras, the
visual tokenizer) is whole in every process. The splitting itself is `transformers`' (`DistributedConfig`).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from unified.backbone.qwen3_config import is_default
from unified.config import UnifiedConfig
from unified.model import UnifiedModel
from unified.pretrained import find, load_processor
from unified.stream.processor import Processor

COLUMNS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
ROWS = ("self_attn.o_proj", "mlp.down_proj")
PLAN = {f"backbone.layers.*.{name}": "colwise" for name in COLUMNS}
PLAN |= {f"backbone.layers.*.{name}": "rowwise" for name in ROWS}


def load_parallel(
    model: str | Path | None = None, *, dtype: torch.dtype = torch.float32
) -> tuple[UnifiedModel, Processor]:
    """The part of a model (a folder, a hub name, None for the shipped one) that belongs to this process of
    those that `torchrun` has started, in evaluation mode, on its GPU or on the CPU, and its processor. Every
    process must make the same calls with the same arguments; each gets the same results. ValueError outside
    torchrun and for a model that cannot be split evenly; OSError where the processes do not find each
    other."""
    from transformers.distributed import DistributedConfig

    count = int(os.environ.get("WORLD_SIZE", "0"))
    if count < 1:
        raise ValueError("tensor parallelism runs in several processes: torchrun --nproc-per-node 2 ...")
    folder = find(model)
    processor = load_processor(folder)
    config = UnifiedConfig.from_pretrained(folder)
    check_split(config, count)
    spread = DistributedConfig(tp_size=count, tp_plan=PLAN)
    found: UnifiedModel = UnifiedModel.from_pretrained(
        folder, config=config, dtype=dtype, distributed_config=spread
    )
    return found.eval(), processor


def check_split(config: UnifiedConfig, count: int) -> None:
    """ValueError for a model whose heads or inner units are no multiple of `count`, and for another one than
    a plain default decoder."""
    backbone = config.backbone_config().get_text_config()
    plain = is_default(backbone) and not getattr(backbone, "write_expert", False)
    if config.base or config.read_outs > 1 or not plain:
        raise ValueError("only models of the default decoder alone are split over processes")
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        value = getattr(backbone, name)
        if value % count:
            raise ValueError(f"{name} is {value}, no multiple of the {count} processes")
