"""`unified extend`: gives a pretrained image-text model a pen."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def extend(options: argparse.Namespace) -> int:
    from unified.pretrained import find, save_model
    from unified.vision_language.extension import extend as extended

    out = _check_out(options.out)
    folder = find(options.folder)
    source = folder.resolve() if Path(options.folder).expanduser().is_dir() else options.folder
    model, processor = extended(source, folder, _pen(options), seed=options.seed)
    save_model(out, model, processor)
    new = sum(p.numel() for name, p in model.named_parameters() if _is_new(name))
    whole = sum(parameter.numel() for parameter in model.parameters())
    data = {"folder": str(out), "extends": str(source), "parameters": whole, "new": new}
    lines = [
        f"Wrote {out}: {new:,} new parameters beside the {whole - new:,} of {source}.",
        f"Train it: python -m unified.train extended --override start={out} --out RUN",
    ]
    print(json.dumps(data) if options.json else "\n".join(lines))
    return 0


def _pen(options: argparse.Namespace) -> Any:
    """What the options give: the visual tokenizer of a model, or one by itself."""
    from unified.file_names import PROCESSOR
    from unified.pretrained import find
    from unified.stream.processor_files import load_processor, load_visual
    from unified.tokenizers.residual_vq import ResidualVQTokenizer
    from unified.vision_language.extension import Pen

    folder = find(options.visual)
    if not (folder / PROCESSOR).is_file():
        visual = load_visual(folder)
        order = "residual" if isinstance(visual, ResidualVQTokenizer) else "next_scale"
        return Pen(visual=visual, order=order, actions=options.actions)
    known = load_processor(folder)
    if known.visual is None:
        raise ValueError(f"{folder}: this model has no visual tokenizer")
    return Pen(
        visual=known.visual,
        order=known.order,
        sides=known.sides,
        frame_sides=known.frame_sides,
        max_side=known.vocabulary.max_side,
        actions=options.actions,
    )


def _is_new(name: str) -> bool:
    from unified.backbone.extended_tables import is_pretrained

    return not is_pretrained(name)


def _check_out(out: Path) -> Path:
    """ValueError where something lies already: nothing is overwritten."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder: name another --out")
    return out
