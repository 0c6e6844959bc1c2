"""FVQ (arXiv 2509.10140): does a codebook that a network generates use all of its codes where a plain one
dies, and does it still pay against a plain one that is well run?"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
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
from unified.eval.lab.ground.codecs import held_out, new, passed, pixels, quality, teach, wanted
from unified.tokenizers.codebook import CodebookConfig, export
from unified.tokenizers.vq import VQConfig, VQTokenizer
from unified.train.tokenizer import AnnealingConfig, LossConfig, RestartConfig, TokenizerTrainingConfig

SHARE, RATE = 1.2, 1e-3
CODES = {True: 1024, False: 64}  # squares whose roots patches of four divide; few for tiny grounds
DIM = 32
ALIVE, DEAD = 0.95, 0.6  # of the codes are used by the bridge, and by a plain codebook at most
SHOWN = 8  # times the pictures that are drawn elsewhere


def of_kind(kind: str, restarts: bool, trial: Trial) -> Numbers:
    """A codebook of one kind under an annealed rate: what is used of it on held-out scenes."""
    sizes = trial.ground.sizes
    codes = CODES[sizes.tokenizer.codes >= 256]
    what = wanted(trial, codes=codes, dim=DIM)
    tokenizer = new(trial, "fvq", what) if kind == "bridge" else plain(trial, kind, codes)
    config = TokenizerTrainingConfig(
        steps=sizes.steps(SHARE),
        learning_rate=RATE,
        draws=0,
        log_every=sizes.steps(SHARE),
        losses=LossConfig(pixels="l2"),
        annealing=AnnealingConfig(),
        restarts=RestartConfig(first=8) if restarts else None,
    )
    teach(trial, tokenizer, config)
    _, true = held_out(trial, SHOWN)
    found = quality(tokenizer, true)
    if kind == "plain":
        return found
    exported = export(tokenizer)
    with torch.no_grad():
        same = torch.equal(exported.encode(pixels(true[:64]))[0], passed(tokenizer, true[:64]).codes)
    return {**found, "exported": same}


def plain(trial: Trial, kind: str, codes: int) -> VQTokenizer:
    """The same networks around a table, or a table behind a linear map. The table starts small and even, as
    in LlamaGen, on which the published code builds."""
    torch.manual_seed(trial.seed)
    network = wanted(trial, codes=codes, dim=DIM).network()
    book = CodebookConfig(kind=kind)  # type: ignore[arg-type]
    tokenizer = VQTokenizer(VQConfig(codes=codes, dim=DIM, encoder=network, codebook=book, normalised=False))
    if kind == "plain":
        weight: Any = tokenizer.table.weight
        torch.nn.init.uniform_(weight, -1 / codes, 1 / codes)
    return tokenizer


BRIDGE, PLAIN, WELL = "bridge, annealed", "plain, annealed", "plain, restarts"


def judge(results: Results) -> list[Criterion]:
    used = {arm: results.values(arm, "usage") for arm in (BRIDGE, PLAIN, WELL)}
    dead = sum(used[PLAIN]) / len(used[PLAIN])
    same = holds("(3) an exported codebook gives the same codes", [bool(results.of(BRIDGE, seed, "exported"))
                 for seed in results.seeds])  # fmt: skip
    if dead > DEAD:
        why = f"a plain codebook uses {100 * dead:.0f} % of its codes: these pictures let none die"
        return [same, not_applicable("(1) codes used by the bridge, %", why, central=True)]
    gain = results.difference(BRIDGE, PLAIN, "psnr")
    return [
        at_least("(1) codes used by the bridge, annealed, %", [100 * x for x in used[BRIDGE]], 100 * ALIVE),
        at_most("(1) codes used by a plain table, annealed, %", [100 * x for x in used[PLAIN]], 100 * DEAD),
        at_least("(2) PSNR of the bridge above a plain table, dB", gain, 0.5),
        same,
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="fvq",
    what="a generated codebook beside a plain one, one behind a linear map and one with restarts",
    arms={
        BRIDGE: partial(of_kind, "bridge", False),
        PLAIN: partial(of_kind, "plain", False),
        "linear, annealed": partial(of_kind, "linear", False),
        WELL: partial(of_kind, "plain", True),
    },
    judge=judge,
    minutes=25,
    scaled="32 x 32 scenes of one or two shapes, 64 codes each of 1024, 32 channels; 720 steps; 1024 "
    "held-out scenes; the plain table whose codes start as clusters and are restarted, which the note calls "
    "the honest question, is shown and not judged; no constant rates",
    shown=("usage", "perplexity", "psnr"),
)
