"""Runs the recipes of tokenizers: text by byte-level BPE, pictures by `train_tokenizer`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from unified.tokenizers.codebook import CodebookConfig
from unified.tokenizers.quantise import usage
from unified.tokenizers.text import byte_tokenizer, train_text_tokenizer
from unified.tokenizers.vq import VQTokenizer
from unified.train.folders import TEXT, VISUAL_CONFIG, bytes_or, load_visual, save_text, save_visual
from unified.train.pictures import as_images, batches, pictures, texts
from unified.train.recipe import TextTokenizerRecipe, VisualTokenizerRecipe
from unified.train.stored import to_json, write_text
from unified.train.tokenizer import train_tokenizer
from unified.train.tokenizer_state import Saving

Report = dict[str, Any]


def text_tokenizer(recipe: TextTokenizerRecipe | str, folder: Path) -> Any:
    """The tokenizer of a recipe, trained into `folder` unless it lies there, or that of another folder."""
    if isinstance(recipe, str):
        return bytes_or(recipe)
    if not (folder / TEXT).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "recipe.json", to_json(recipe))
        found = (text for source in recipe.sources for text in texts(source, recipe.seed))
        made = byte_tokenizer() if recipe.size == 256 else train_text_tokenizer(found, recipe.size)
        save_text(made, folder)
    return bytes_or(folder)


def visual_tokenizer(
    recipe: VisualTokenizerRecipe | str, folder: Path, *, workers: int = 1, device: str = "cpu"
) -> VQTokenizer:
    """The same for pictures. Interrupted training resumes from its last checkpoint."""
    if isinstance(recipe, str):
        return load_visual(recipe)
    if (folder / VISUAL_CONFIG).is_file():
        return load_visual(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.json", to_json(recipe))
    arrays = [
        _pictures(recipe, number, "train", folder, workers) for number in range(len(recipe.pictures.sources))
    ]
    weights = [source.weight for source in recipe.pictures.sources]
    torch.manual_seed(recipe.seed)
    tokenizer = _first(recipe).to(device)
    saving = Saving(folder / "checkpoint.pt", every=recipe.save_every)
    feed = (b.to(device) for b in batches(arrays, weights, recipe.pictures.batch, recipe.seed, saving.step()))
    generator = torch.Generator().manual_seed(recipe.seed)
    train_tokenizer(
        tokenizer, feed, recipe.training, generator=generator, log=folder / "log.jsonl", saving=saving
    )
    tokenizer = tokenizer.to("cpu").bfloat16().float()  # measured as it will be stored: in half the room
    report = measure(tokenizer, recipe, folder, workers)
    write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
    save_visual(tokenizer, folder)
    return load_visual(folder)


def _first(recipe: VisualTokenizerRecipe) -> VQTokenizer:
    """The tokenizer before training."""
    tokenizer = VQTokenizer(recipe.network)
    if recipe.start:
        known = load_visual(recipe.start)
        anew = recipe.training.restarts is not None
        codes = recipe.network.codes if anew else known.codes
        if replace(known.config, codes=codes) != replace(recipe.network, codebook=CodebookConfig()):
            raise ValueError(f"{recipe.start}: a tokenizer with other networks than the recipe's")
        state = known.state_dict()
        taken = {name: value for name, value in state.items() if not (anew and name.startswith("table."))}
        tokenizer.load_state_dict(taken, strict=False)
    return tokenizer


@torch.no_grad()
def measure(tokenizer: VQTokenizer, recipe: VisualTokenizerRecipe, folder: Path, workers: int = 1) -> Report:
    """Mean PSNR in dB by source over held-out pictures, and use of the codes by all of them on the full
    grid."""
    found: Report = {}
    ids = []
    for number, source in enumerate(recipe.pictures.sources):
        array = _pictures(recipe, number, "validation", folder, workers)
        values = []
        for start in range(0, len(array), 64):
            images = as_images(np.asarray(array[start : start + 64]))
            (codes,) = tokenizer.encode(images)
            grid = (images.shape[2] // tokenizer.stride, images.shape[3] // tokenizer.stride)
            error = (tokenizer.decode(codes, grid).clamp(-1, 1) - images).square().mean(dim=(1, 2, 3)) / 4
            values.append(-10 * torch.log10(error.clamp(min=1e-10)))
            ids.append(codes.flatten())
        found[source.task] = {"psnr": float(torch.cat(values).mean()), "pictures": len(array)}
    used, perplexity = usage(torch.cat(ids), tokenizer.codes)
    return {"sources": found, "usage": used, "perplexity": perplexity}


def _pictures(
    recipe: VisualTokenizerRecipe, number: int, split: str, folder: Path, workers: int
) -> np.ndarray:
    source = recipe.pictures.sources[number]
    count = source.samples if split == "train" else recipe.pictures.held_out
    path = folder / "pictures" / f"{number}-{source.task}-{split}-{count}.npy"
    return pictures(source, recipe.seed, split, count, recipe.pictures.size, path, workers)
