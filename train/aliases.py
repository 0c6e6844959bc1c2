"""Where the fields of recipes went when they were grouped: old name -> (group, name in it), by dataclass.

The old names go on working in `--override` (`train/override.py`) and in recipes that earlier versions saved
(`train/stored.py`). No group has the name of an old field, so that a path means one thing.
"""

from __future__ import annotations

from collections.abc import Mapping

Alias = tuple[str, str]


def _same(group: str, *names: str) -> dict[str, Alias]:
    """Fields that kept their names."""
    return {name: (group, name) for name in names}


ALIASES: Mapping[str, Mapping[str, Alias]] = {
    "Stage": {
        **_same("data", "mixture", "mixture_end", "samples", "condition_dropout", "cut", "coarse"),
        **_same("batch", "rows", "length", "micro_rows", "bf16", "gradient_checkpointing"),
        **_same("optimisation", "optimiser", "learning_rate", "warmup", "final", "weight_decay", "clip"),
        **_same("parameters", "trains", "adapter", "average"),
        **_same("loss_weights", "balance"),
        "kind_weights": ("loss_weights", "kinds"),
        "task_weights": ("loss_weights", "tasks"),
    },
    "ModelShape": {
        **_same("decoder", "width", "layers", "heads", "kv_heads", "mlp", "pretrained", "attention"),
        **_same("default_extras", "references", "copies", "transition", "grid"),
    },
    "VisualTokenizerRecipe": _same("pictures", "sources", "size", "batch", "held_out"),
    "ModelRecipe": {
        **_same("tokenizers", "text", "visual", "sides", "frame_sides", "max_side", "merge", "order"),
        **_same("data", "sources", "split"),
        **_same("output", "log_every", "save_every", "sheet_every", "keep", "export_bf16"),
    },
}
