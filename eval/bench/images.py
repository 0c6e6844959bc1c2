"""Images per second and peak memory of next-scale generation through a session.

`var`: the official VAR architecture (depth 8, width 512, 8 heads, ten maps to 16 x 16, guidance 1.5, top-k
900, top-p 0.95; tokenizer of width 160 with 4096 codes of 32). `published`: the same weights in the published
way (`baseline.py`), in bfloat16 by autocast. `own`: our model at equal depth and width. Weights are random:
time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from unified.eval.bench.baseline import PublishedVAR
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer

from unified.checkpoints.next_scale import finished
from unified.checkpoints.published import SCALES_256, config_from, initialise
from unified.checkpoints.var import VAR
from unified.config import UnifiedConfig, text_decoder
from unified.decoding.guidance import Constant, Ramp
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel

SAMPLER = Sampler(top_k=900, top_p=0.95)
SCALE = 1.5
CODES, DIM = 4096, 32


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement: `method` is published, var or own."""

    method: str
    dtype: str
    batch: int
    threads: int = 2
    repeats: int = 5


def cases(repeats: int, batches: Sequence[int]) -> list[Case]:
    """What `make bench` measures."""
    kinds = [("published", "float32"), ("published", "bfloat16"), ("var", "float32"), ("var", "bfloat16")]
    kinds += [("own", "float32"), ("own", "bfloat16")]
    return [Case(method=m, dtype=d, batch=b, repeats=repeats) for b in batches for m, d in kinds]


def tokenizer() -> ResidualVQTokenizer:
    """The official tokenizer with random weights."""
    network = NetworkConfig(latent=DIM, width=160, multipliers=(1, 1, 2, 2, 4), blocks=2)
    return ResidualVQTokenizer(ResidualVQConfig(codes=CODES, network=network, sizes=SCALES_256)).eval()


def var_model() -> VAR:
    """The official architecture at depth 8, its head made less constant than the published initialisation."""
    options = {"num_classes": 1000, "depth": 8, "embed_dim": 512, "num_heads": 8, "attn_l2_norm": True}
    config = config_from({**options, "patch_nums": SCALES_256}, codes=CODES, code_width=DIM)
    model = VAR(config, tokenizer()).eval()
    initialise(model)
    torch.nn.init.normal_(model.head.weight, std=0.05)
    return model


def own_model(mlp: int = 2048) -> UnifiedModel:
    backbone = text_decoder(width=512, layers=8, heads=8, kv_heads=8, mlp=mlp)
    return UnifiedModel(UnifiedConfig(backbone=backbone, vocabulary={"visual": CODES})).eval()


Step = Callable[[], Tensor]
Decode = Callable[[Tensor], Tensor]


def steps(case: Case) -> tuple[Step, Decode]:
    """Functions that generate the final latents [B, C, 16, 16] of a batch, and that decode them."""
    torch.manual_seed(0)
    dtype = getattr(torch, case.dtype)
    labels = torch.arange(case.batch)
    if case.method == "published":
        baseline = PublishedVAR(var_model(), autocast=dtype == torch.bfloat16)
        generator = torch.Generator().manual_seed(0)
        return lambda: baseline.generate(labels, SCALE, 900, 0.95, generator)[1], baseline.decode
    if case.method == "var":
        model = var_model().to(dtype)
        return lambda: _var_latents(model, labels), _decoder(model.needed_tokenizer(), dtype)
    if case.method == "own":
        own, visual = own_model().to(dtype), tokenizer()
        return lambda: _own_latents(own, visual, case.batch), _decoder(visual, dtype)
    raise ValueError(f"unknown method {case.method!r}: choose published, var or own")


@torch.no_grad()
def _var_latents(model: VAR, labels: Tensor) -> Tensor:
    session = Session(model, rows=len(labels))
    session.feed([model.prompt(label) for label in labels.tolist()])
    drawing = session.draw(SCALES_256, order=model.order, guidance=Ramp(SCALE), sampler=SAMPLER)
    return finished(model, [model.vectors(codes) for codes in drawing.maps()], model.config.shapes)


@torch.no_grad()
def _own_latents(model: UnifiedModel, visual: ResidualVQTokenizer, batch: int) -> Tensor:
    words = model.vocabulary
    session = Session(model, rows=batch)
    session.feed([words.begin, words.user, *range(20), words.end, words.assistant])
    drawing = session.draw(SCALES_256, guidance=Constant(SCALE), sampler=SAMPLER)
    return visual.vectors(drawing.maps()[-1]).transpose(1, 2).unflatten(-1, (16, 16))


def _decoder(visual: ResidualVQTokenizer, dtype: torch.dtype) -> Decode:
    visual.decoder.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def decode(latents: Tensor) -> Tensor:
        return (visual.decode_vectors(latents).float() + 1) / 2

    return decode


def measure(case: Case) -> dict[str, Any]:
    """Seconds per batch (fastest and median of the repeats) with and without the decoder, and peak memory in
    MB."""
    torch.set_num_threads(case.threads)
    generate, decode = steps(case)
    generate()
    bare = peak_mb()
    without = [_timed(generate)[0] for _ in range(case.repeats)]
    latents = generate()
    decode(latents)
    decoding = [_timed(lambda: decode(latents))[0] for _ in range(case.repeats)]
    return {
        **asdict(case),
        "transformer_seconds": min(without),
        "transformer_median": statistics.median(without),
        "decoder_seconds": min(decoding),
        "decoder_median": statistics.median(decoding),
        "transformer_peak_mb": bare,
        "peak_mb": peak_mb(),
    }


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_own_process(case: Case) -> dict[str, Any]:
    """`measure` in a fresh process. Threads wait busily, as PyTorch's do: run it on a machine with nothing
    else to do, since another program slows every case many times over."""
    command = [sys.executable, "-m", "unified.eval.bench.images", json.dumps(asdict(case))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"the measurement {case} failed: {result.stderr.strip().splitlines()[-1]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="one measurement, as JSON")
    parser.add_argument("case", help="fields of Case as JSON")
    print(json.dumps(measure(Case(**json.loads(parser.parse_args().case)))))
