"""VTBench (arXiv 2505.13439): do measures of a tokenizer alone order known damage, and does legible text tell
tokenizers apart that PSNR does not?"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    holds,
    not_applicable,
)
from unified.eval.lab.ground.codecs import held_out, pixels
from unified.eval.lab.ground.measures import FEATURES, FRECHET
from unified.eval.lab.ground.tokenizers import as_pictures
from unified.eval.metrics.frechet import frechet_of
from unified.eval.metrics.images import pooled_psnr, ssim
from unified.eval.suites.vtbench import HEIGHTS, legibility
from unified.eval.text_reader import Tesseract
from unified.tokenizers.reconstruction import reconstruct

Reconstruct = Callable[[np.ndarray], np.ndarray]  # uint8 [N, H, W, 3] -> the same

DISCRETE = ("vq", "residual_vq", "bsq")
CONTINUOUS = "kl_vae"
TEXT_SIDE = 96  # pixels
BLURS = (0.5, 1.0, 2.0)  # standard deviations in pixels
SMALLER = (2, 4)
LEGIBLE = 0.2  # character errors of the reader on clean text, above which a height says nothing
CLOSE, APART = 0.5, 0.1  # dB of PSNR, and characters in error


def through(tokenizer: Any) -> Reconstruct:
    def passed(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return as_pictures(reconstruct(tokenizer, pixels(images)).images)

    return passed


def blurred(spread: float) -> Reconstruct:
    def passed(images: np.ndarray) -> np.ndarray:
        places = torch.arange(-6, 7).float()
        line = (-places.square() / (2 * spread**2)).exp()
        kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, -1, -1)
        wide: Tensor = F.pad(pixels(images), (6, 6, 6, 6), mode="replicate")
        return as_pictures(F.conv2d(wide, kernel, groups=3))

    return passed


def made_smaller(factor: int) -> Reconstruct:
    def passed(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        small, whole = (width // factor, height // factor), (width, height)
        every = [Image.fromarray(one).resize(small, Image.Resampling.BICUBIC) for one in images]
        return np.stack([np.asarray(one.resize(whole, Image.Resampling.BICUBIC)) for one in every])

    return passed


def subjects(trial: Trial) -> dict[str, Reconstruct]:
    """The ground's tokenizers, nothing at all, and known damage."""
    damage = {f"blur {spread:g}": blurred(spread) for spread in BLURS}
    damage |= {f"smaller {factor}": made_smaller(factor) for factor in SMALLER}
    coders = {name: through(trial.ground.tokenizer(name)) for name in (*DISCRETE, CONTINUOUS)}
    return {"identity": lambda images: images, **damage, **coders}


def everything(trial: Trial) -> Numbers:
    """Scenes and text through each of them."""
    _, true = held_out(trial)
    try:
        reader, obstacle = Tesseract(), ""
    except ValueError as error:
        reader, obstacle = None, str(error)
    count = max(2, trial.ground.sizes.prompts // 16)
    found: Numbers = {"obstacle": obstacle}
    for name, passed in subjects(trial).items():
        made = passed(true)
        text = legibility(passed, reader, TEXT_SIDE, count, obstacle, trial.seed).numbers
        found[name] = {
            "psnr": pooled_psnr(made, true),
            "ssim": float(np.mean([ssim(*pair) for pair in zip(made, true, strict=True)])),
            FRECHET: frechet_of(true, made, FEATURES),
            "text": {height: {key: float(x) for key, x in row.items() if key != "not_read"}
                     for height, row in text.items()},
        }  # fmt: skip
    return found


def judge(results: Results) -> list[Criterion]:
    def values(name: str, what: str) -> list[float]:
        return results.values("all", f"{name}/{what}")

    ordered = {}
    for what, sign in (("psnr", -1), ("ssim", -1), (FRECHET, 1)):
        for names in ([f"blur {x:g}" for x in BLURS], [f"smaller {x}" for x in SMALLER]):
            columns = zip(*(values(name, what) for name in names), strict=True)
            ordered[what, names[0]] = [sorted(row, key=lambda x: sign * x) == list(row) for row in columns]
    found = [
        at_least("(1) PSNR of pictures left as they are, dB", values("identity", "psnr"), 100.0),
        at_most("(1) and their Frechet distance", values("identity", FRECHET), 0.01),
        holds("(2) known damage is ordered by every measure", [all(row) for row in zip(*ordered.values(),
              strict=True)]),
    ]  # fmt: skip
    return [*found, *_of_text(results)]


def _of_text(results: Results) -> list[Criterion]:
    names = ("(2) least rise of character errors with known damage, points",
             "(3) tokenizers within 0.5 dB whose character errors differ, most, points",
             "(4) character errors of continuous latents less those of the best codes, points")  # fmt: skip
    obstacle = results.of("all", results.seeds[0], "obstacle")
    if obstacle:
        return [not_applicable(name, obstacle) for name in names]
    clean = {height: results.values("all", f"identity/text/{height}/cer") for height in HEIGHTS}
    legible = [height for height, cer in clean.items() if sum(cer) / len(cer) <= LEGIBLE]
    if not legible:
        told = ", ".join(f"{100 * sum(cer) / len(cer):.0f} %" for cer in clean.values())
        why = f"the reader errs in {told} of the characters of clean text: it has no say"
        return [not_applicable(name, why) for name in names]
    height = legible[0]  # the smallest
    found = [at_least(names[0], _rises(results, height), 0.0)]
    cer = {name: results.values("all", f"{name}/text/{height}/cer") for name in (*DISCRETE, CONTINUOUS)}
    psnr = {name: results.values("all", f"{name}/text/{height}/psnr_pooled") for name in cer}
    gaps = []
    for a, b in combinations(cer, 2):
        if abs(sum(psnr[a]) - sum(psnr[b])) / len(psnr[a]) <= CLOSE:
            gaps.append([100 * abs(x - y) for x, y in zip(cer[a], cer[b], strict=True)])
    if gaps:
        found.append(at_least(names[1], max(gaps, key=sum), 100 * APART))
    else:
        found.append(not_applicable(names[1], f"no two are within {CLOSE} dB on text of {height} points"))
    best = min(DISCRETE, key=lambda name: sum(cer[name]))
    less = [100 * (a - b) for a, b in zip(cer[CONTINUOUS], cer[best], strict=True)]
    return [*found, at_most(f"{names[2]} ({best}, {height} points)", less, 0.0)]


def _rises(results: Results, height: int) -> list[float]:
    """By seed, the least that character errors rise by from a damage to the next larger one."""
    rises = []
    for names in ([f"blur {x:g}" for x in BLURS], [f"smaller {x}" for x in SMALLER]):
        columns = [results.values("all", f"{name}/text/{height}/cer") for name in names]
        rises += [[100 * (b - a) for a, b in zip(*pair, strict=True)] for pair in pairwise(columns)]
    return [min(row) for row in zip(*rises, strict=True)]


EXPERIMENT = Experiment(
    name="vtbench",
    what="the ground's tokenizers and known damage on scenes and on rendered text",
    arms={"all": everything},
    judge=judge,
    minutes=6,
    scaled="four tokenizers of the ground in place of 24 published ones, on 32 x 32 scenes and on text in "
    "images of 96 pixels, which they were not trained on; Tesseract reads, after enlargement, and heights "
    "of letters that it misreads on clean images are left out; no LPIPS, whose weights are not here; usage "
    "of codes is in `unified eval tokenizer`",
    shown=("psnr", "ssim", FRECHET, "cer"),
)
