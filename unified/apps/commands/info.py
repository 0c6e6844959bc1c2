"""`unified info`: sizes, vocabulary, orders and versions of a model.

Of a folder in this project's own form all of it stands in its files, which are read without importing torch.
Where a device or a number format is named the model is loaded, and what it runs with is said too.
"""

from __future__ import annotations

import argparse
from typing import Any

from unified.apps.commands.common import assistant, show
from unified.apps.commands.model_files import described


def info(options: argparse.Namespace) -> int:
    loads = options.device is not None or options.dtype is not None
    data = None if loads else described(options.model)
    if data is None:
        model: Any = assistant(options)
        data = model.describe() if hasattr(model, "describe") else describe(model)
    lines = [f"{name.replace('_', ' '):22} {_shown(value)}" for name, value in data.items()]
    show(options, lines, data)
    return 0


def describe(assistant: Any) -> dict[str, Any]:
    """Sizes, vocabulary, orders, what it runs with, versions: plain data."""
    from unified.apps.commands.model_files import versions
    from unified.backbone.attention import session_attention

    model, processor = assistant.model, assistant.processor
    words, backbone = processor.vocabulary, model.config.backbone
    weights = sum(parameter.numel() for parameter in model.parameters())
    tokenizer = sum(parameter.numel() for parameter in processor.visual.parameters())
    base = model.config.base
    return {
        "folder": str(assistant.folder),
        **({"extends": base["source"]} if base else {}),
        "parameters": weights + tokenizer,
        "of_the_model": weights,
        "of_the_tokenizer": tokenizer,
        "backbone": backbone["model_type"],
        "width": model.config.hidden_size,
        "layers": backbone.get("num_hidden_layers"),
        "head": model.config.head,
        "text_ids": words.text,
        "visual_codes": words.visual,
        "action_ids": words.action if processor.action is not None else 0,
        "stride": processor.visual.stride,
        "order": processor.order,
        "maps": [list(shape) for shape in assistant.shapes((assistant.side, assistant.side))],
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": session_attention(model.attention, model.device, model.dtype),
        **versions(),
    }


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join("x".join(map(str, item)) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
