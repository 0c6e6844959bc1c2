"""The visual tokenizer alone: PSNR and SSIM of reconstructions and use of the codebook, by domain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from unified.eval.measurement import DATA_SEED, Example, Goal, Result, Run, Table
from unified.eval.metrics.codebook import CodeCount
from unified.eval.metrics.frechet import RandomConvFeatures, frechet_of
from unified.eval.metrics.images import decibel, psnr, squared_error, ssim
from unified.eval.metrics.rates import mean
from unified.tasks.mazes import MazeConfig, MazeTask
from unified.tasks.sample import generator
from unified.tasks.scenes.generate import random_scene
from unified.tasks.scenes.render import render
from unified.tasks.worlds.clips import WorldConfig, watch
from unified.tokenizers.images import to_images, to_uint8

from unified.orders.shapes import Shapes

BATCH = 32
FRAMES = 4  # of every clip
COUNTED = 8  # times as many images for the codes: a few dozen do not hold the rare ones


def tokenizer(run: Run) -> Result:
    """`count` images of each domain are encoded and decoded; codes are counted over COUNTED times as many, at
    the final map and over all maps of the schedule."""
    visual = run.assistant.visual
    numbers: dict[str, Any] = {}
    everywhere = CodeCount(visual.codes)
    examples = []
    for name, images in domains(run).items():
        final, all_maps = CodeCount(visual.codes), CodeCount(visual.codes)
        truths = list(islice(images, run.count))
        made: list[np.ndarray] = []
        for batch in _batches(truths):
            made += _decoded(run, _encoded(run, batch, final, all_maps))
        for batch in _batches(islice(images, (COUNTED - 1) * run.count)):
            _encoded(run, batch, final, all_maps)
        everywhere.counts += all_maps.counts
        numbers[name] = _compared(made, truths) | {
            "usage": all_maps.usage,
            "usage_of_final_map": final.usage,
            "perplexity": all_maps.perplexity,
            "images": len(truths),
            "images_of_usage": COUNTED * run.count,
        }
        examples.append(
            Example(f"{name}: true and passed through the tokenizer in turn", _paired(truths, made))
        )
    numbers["all"] = {"usage": everywhere.usage, "perplexity": everywhere.perplexity}
    shown = [name for name in numbers if name != "all"]
    rows = [
        [name, *(numbers[name][key] for key in ("psnr", "pooled_psnr", "ssim", "usage", "perplexity"))]
        for name in shown
    ]
    rows.append(["all", None, None, None, everywhere.usage, everywhere.perplexity])
    header = ["domain", "PSNR, dB (mean of images)", "PSNR, dB (pooled)", "SSIM", "code usage", "perplexity"]
    title = f"Tokenizer: {run.count} images a domain, code usage over {COUNTED * run.count}"
    return Result(
        numbers=numbers,
        tables=[Table(title, header, rows)],
        goals=[
            Goal("tokenizer, scenes", numbers["scenes"]["psnr"].value, 30.0, "dB"),
            Goal("tokenizer, mazes", numbers["mazes"]["psnr"].value, 30.0, "dB"),
            Goal("tokenizer, frames", numbers["frames"]["psnr"].value, 25.0, "dB"),
            Goal("tokenizer, code usage", everywhere.usage, 0.95),
        ],
        examples=examples,
    )


def domains(run: Run) -> dict[str, Iterator[np.ndarray]]:
    """Endless held-out images uint8 [side, side, 3] of each domain."""
    return held_out(run.assistant.side, run.split)


def held_out(side: int, split: str) -> dict[str, Iterator[np.ndarray]]:
    """The same for images of any side."""
    return {
        "scenes": _scenes(side, split),
        "mazes": _mazes(side, split),
        "frames": _frames(side, split),
    }


def _scenes(side: int, split: str) -> Iterator[np.ndarray]:
    index = 0
    while True:
        yield render(random_scene(generator(DATA_SEED, split, index), split), side)
        index += 1


def _mazes(side: int, split: str) -> Iterator[np.ndarray]:
    """The maze of every trace and its last sketch."""
    task, index = MazeTask(MazeConfig(seed=DATA_SEED, image_size=side)), 0
    while True:
        given, answer = task.sample(index, split).messages
        yield given["content"][0]["image"]
        yield [item["image"] for item in answer["content"] if item["type"] == "image"][-1]
        index += 1


def _frames(side: int, split: str) -> Iterator[np.ndarray]:
    config, index = WorldConfig(size=side, seed=DATA_SEED, frames=FRAMES * 4), 0
    while True:
        yield from watch(config, index, split).frames[::4]
        index += 1


def _batches(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    images = iter(images)
    while batch := list(islice(images, BATCH)):
        yield np.stack(batch)


@torch.no_grad()
def _encoded(run: Run, images: np.ndarray, final: CodeCount, all_maps: CodeCount) -> list[torch.Tensor]:
    """The maps of codes of uint8 [n, side, side, 3], which are counted on the way."""
    visual = run.assistant.visual
    maps = visual.encode(to_images(images).to(visual.codebook().device), _shapes(run))
    for ids in maps:
        all_maps.add(ids.cpu().numpy())
    final.add(maps[-1].cpu().numpy())
    return maps


@torch.no_grad()
def _decoded(run: Run, maps: list[torch.Tensor]) -> list[np.ndarray]:
    visual = run.assistant.visual
    read = visual.read_shapes(_shapes(run))
    return list(to_uint8(visual.decode_maps(maps[-len(read) :], read)))


def _shapes(run: Run) -> Shapes:
    cells = run.assistant.side // run.assistant.visual.stride
    return run.assistant.processor.schedule((cells, cells))


def _compared(made: list[np.ndarray], truths: list[np.ndarray]) -> dict[str, Any]:
    pairs = list(zip(made, truths, strict=True))
    errors = [squared_error(*pair) for pair in pairs]
    features = RandomConvFeatures()
    found = {
        "psnr": mean(psnr(*pair) for pair in pairs),
        "pooled_psnr": decibel(sum(errors) / len(errors)),
        "ssim": mean(ssim(*pair) for pair in pairs),
    }
    if len(pairs) > 1:
        found[f"frechet[{features.name}]"] = frechet_of(truths, made, features)
    return found


def _paired(truths: list[np.ndarray], made: list[np.ndarray]) -> list[np.ndarray]:
    return [image for pair in list(zip(truths, made, strict=True))[:4] for image in pair]
