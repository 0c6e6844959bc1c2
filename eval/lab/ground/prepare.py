"""Training of the ground: tokenizers, then base models, each once; what is there already is left alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from unified.eval.lab.ground import scenes as told
from unified.eval.lab.ground.bases import BASES, new_model
from unified.eval.lab.ground.drawing import draw
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.ground.measures import likelihood, measured, pixel_psnr
from unified.eval.lab.ground.tokenizers import TOKENIZERS, as_images, as_pictures, train_one
from unified.eval.lab.ground.training import Course, train
from unified.train.stored import write_text


def prepare(ground: Ground, work: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """Train and measure all that is missing, or of it what is named (other processes may do the rest); an
    interrupted training goes on from its checkpoint in `work`. The figures are written beside the weights as
    `manifest.json` and returned. ValueError for an unknown name."""
    if unknown := set(names) - {*TOKENIZERS, *BASES}:
        raise ValueError(
            f"{', '.join(sorted(unknown))}: not of the ground: {', '.join([*TOKENIZERS, *BASES])}"
        )
    if not ground.manifest():
        _write(ground, {"parser": parser_accuracy(ground)})
    for every, make in ((TOKENIZERS, _tokenizer), (BASES, _base)):
        for name in every:
            if name in (names or every) and not (ground.has(name) and name in ground.manifest()):
                print(f"{name} ...", file=sys.stderr, flush=True)
                _write(ground, {name: make(ground, name, work)})
    return ground.manifest()


def parser_accuracy(ground: Ground, count: int = 256) -> dict[str, float]:
    """Of true pictures of the validation split at 32 x 32, as `scenes.score`."""
    scenes = ground.scenes("validation", min(count, ground.sizes.scenes))
    every = [told.score(one, picture) for one, picture in zip(scenes, told.pictures(scenes), strict=True)]
    return {name: sum(one[name] for one in every) / len(every) for name in every[0]}


def _tokenizer(ground: Ground, name: str, work: Path) -> dict[str, Any]:
    began = time.monotonic()
    if not ground.has(name):
        ground.keep(name, train_one(name, ground.pictures(), ground.sizes, work / "tokenizers"))
    seconds = time.monotonic() - began
    tokenizer = ground.tokenizer(name)
    with torch.no_grad():
        true = ground.pictures("validation")
        made = as_pictures(_reconstructed(tokenizer, as_images(true)))
    scenes = ground.scenes("validation", len(true))
    every = [told.score(one, picture) for one, picture in zip(scenes, made, strict=True)]
    ceiling = {key: sum(one[key] for one in every) / len(every) for key in every[0]}
    count = sum(p.numel() for p in tokenizer.parameters())
    return {"parameters": count, "psnr": pixel_psnr(made, true), "seconds": seconds, "ceiling": ceiling}


def _reconstructed(tokenizer: Any, images: Tensor) -> Tensor:
    if not tokenizer.codes:
        found: Tensor = tokenizer.decode_vectors(tokenizer.latent(images))
        return found
    shapes = getattr(tokenizer, "shapes", [(images.shape[2] // tokenizer.stride,) * 2])
    kept = tokenizer.read_shapes(shapes)
    decoded: Tensor = tokenizer.decode_maps(tokenizer.encode(images, shapes)[-len(kept) :], kept)
    return decoded


def _base(ground: Ground, name: str, work: Path) -> dict[str, Any]:
    base, sizes = BASES[name], ground.sizes
    trained: dict[str, Any] = {}
    if not ground.has(name):
        model = new_model(base, sizes)
        rows = ground.batches(base)

        def loss(step: int) -> Tensor:
            batch = rows(step, model)
            found: Tensor = model(
                batch.ids, labels=batch.labels, layout=batch.layout, return_logits=False
            ).loss
            return found

        done = train(model, loss, Course(steps=sizes.base_steps, what=name), work / "bases" / name)
        ground.keep(name, model)
        every = max(1, sizes.base_steps // 20)
        trained = {"seconds": done.seconds, "losses": done.losses[::every]}
    return {**trained, **base_figures(ground, name)}


def base_figures(ground: Ground, name: str) -> dict[str, Any]:
    """Parameters, likelihood and drawings of a base model as it is."""
    base, model, how = BASES[name], ground.base(name), ground.how(name)
    codes = ground.codes(base.tokenizer, base.shapes, "validation")
    nll = likelihood(model, ground.captions("validation"), codes, base.order, base.shapes, how.data)
    scenes = ground.scenes("validation", ground.sizes.prompts)
    drawn = draw(model, ground.tokenizer(base.tokenizer), scenes, how, seed=0, rows=ground.sizes.rows)
    count = sum(p.numel() for p in model.parameters())
    return {
        "parameters": count,
        "nll": nll["nll"],
        "by_step": nll["by_step"],
        "drawing": measured(scenes, drawn),
    }


def _write(ground: Ground, found: dict[str, Any]) -> None:
    told = {**ground.manifest(), **found}
    ground.weights.mkdir(parents=True, exist_ok=True)
    write_text(ground.weights / "manifest.json", json.dumps(told, indent=1, sort_keys=True) + "\n")
