"""What the verifications of the VAR and FlexVAR transformers share: a traced training pass, and generation
runs.

Tolerances are those measured for the folders (`var_transformer/README.md`, `flexvar_transformer/README.md`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.check import Check, not_compared
from unified.checkpoints.compare import Tolerance
from unified.checkpoints.folder import read_config, read_state
from unified.checkpoints.generation import GREEDY, Generated, forbid, generate, greedy_where_unusual, smooth
from unified.checkpoints.next_scale import NextScaleTransformer, block_causal
from unified.decoding.guidance import Guidance
from unified.decoding.noise import GeneratorNoise
from unified.decoding.sampling import Sampler
from unified.layout.attention import attends
from unified.orders.shapes import Shapes

LOGITS = Tolerance(5e-4, 1e-4)
HIDDEN = Tolerance(1e-4, 1e-3)  # gradients too
RUN = re.compile(r"gen\.(?P<run>.+?)\.(?P<what>idx\.\d+|logits_cfg(\.\d+|_mid|_last)|f_hat_last|image)")


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of the folder's tokenizer. ValueError if the config names none."""
    if not isinstance(config.get("tokenizer"), str):
        raise ValueError(f"{folder}: config.json names no tokenizer folder")
    path = Path(folder) / config["tokenizer"]
    of_tokenizer = read_config(path)
    return of_tokenizer, read_state(path, of_tokenizer)


def run_names(stored: Mapping[str, Tensor]) -> list[str]:
    """Names of the generation runs, in order of appearance."""
    found = (RUN.fullmatch(name) for name in stored)
    return list(dict.fromkeys(match["run"] for match in found if match))


def needed(stored: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in stored:
        raise ValueError(f"io.safetensors has no {name!r} to compute the other tensors from")
    return stored[name]


def explained(checks: Iterator[Check], obstacles: Mapping[str, str]) -> Iterator[Check]:
    """The same checks, but those left out because of their run say why. `obstacles`: reasons by run."""
    for check in checks:
        match = RUN.fullmatch(check.name)
        reason = obstacles.get(match["run"], "") if match and check.ok is None else ""
        yield not_compared(check.name, reason) if reason else check


# Training pass --------------------------------------------------------------------------------------------


def traced(
    model: NextScaleTransformer, labels: Tensor, codes: Tensor, vectors: Tensor, shapes: Shapes
) -> dict[str, Tensor]:
    """Hidden states, logits, losses and gradients of one teacher-forced pass. codes [B, L], vectors [B, L
    - first, C]."""
    hidden: dict[str, Tensor] = {}
    handles = _watch(model, hidden)
    model.zero_grad()
    logits = model(labels, vectors, shapes)
    for handle in handles:
        handle.remove()
    per_token = F.cross_entropy(logits.transpose(1, 2), codes, reduction="none")
    per_token.mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    return {
        **{f"hidden.{name}": value.detach() for name, value in hidden.items()},
        "logits": logits.detach(),
        "loss_per_token": per_token.detach(),
        "loss": per_token.detach().mean(),
        **{f"grad.{name}": value for name, value in gradients.items()},
        "grad_norm_all_params": norm,
        "attn_allowed": attends(block_causal(shapes), block_causal(shapes))[0],
    }


def _watch(model: NextScaleTransformer, hidden: dict[str, Tensor]) -> list[Any]:
    """Record the first block's input, every block's output and the head's input."""

    def keep_input(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            hidden[name] = arguments[0]

        return hook

    def keep_output(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            hidden[name] = output

        return hook

    handles = [model.blocks[0].register_forward_pre_hook(keep_input("embed"))]
    handles.append(model.head.register_forward_pre_hook(keep_input("head_nm")))
    for number, block in enumerate(model.blocks):
        handles.append(block.register_forward_hook(keep_output(f"block.{number}")))
    return handles


def smoothed_losses(
    stored: Mapping[str, Tensor], prefix: str, logits: Tensor, codes: Tensor
) -> dict[str, Tensor]:
    """Losses whose label smoothing stands in their name."""
    found = {}
    for name in stored:
        match = re.fullmatch(re.escape(prefix) + r"loss_label_smooth_(\d+(?:\.\d+)?)", name)
        if match:
            smoothing = float(match[1])
            found[name] = F.cross_entropy(logits.flatten(0, 1), codes.flatten(), label_smoothing=smoothing)
    return found


def with_parts(stored: Mapping[str, Tensor], computed: dict[str, Tensor], axis: int) -> dict[str, Tensor]:
    """Add what is stored of the first n channels only: `NAME.first{n}ch` is NAME cut along `axis`."""
    for name in stored:
        match = re.fullmatch(r"(.+)\.first(\d+)ch", name)
        if match and match[1] in computed and name not in computed:
            computed[name] = computed[match[1]].narrow(axis, 0, int(match[2]))
    return computed


# Generation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one generation run was made. A run that is not greedy needs a seed."""

    shapes: Shapes
    guidance: Guidance
    top_k: int = 1
    top_p: float = 0.0
    seed: int | None = None
    more_smooth: bool = False
    forbidden: tuple[int, ...] = ()
    greedy_beyond: int | None = None

    @property
    def obstacle(self) -> str:
        """Why the run cannot be repeated; empty if it can."""
        greedy = self.top_k == 1 and not self.more_smooth
        if self.seed is None and not greedy:
            return "sampled without a seed"
        if self.forbidden and not greedy:
            return "sampled with forbidden codes, which are drawn in another way here"
        return ""


def perform(model: NextScaleTransformer, labels: Tensor, run: Run) -> Generated:
    sampler, noise, hooks = GREEDY, None, []
    if run.forbidden:
        hooks.append(forbid(run.forbidden))
    if run.greedy_beyond is not None:
        hooks.append(greedy_where_unusual(run.greedy_beyond))
    if run.seed is not None:
        generator = torch.Generator().manual_seed(run.seed)
        sampler, noise = Sampler(top_k=run.top_k, top_p=run.top_p), GeneratorNoise(generator)
        if run.more_smooth:
            hooks.append(smooth(model, generator))
    return generate(
        model, labels, run.shapes, guidance=run.guidance, sampler=sampler, noise=noise, hooks=hooks
    )


def outputs(name: str, made: Generated) -> dict[str, Tensor]:
    """The tensors of a run by the names they are stored under."""
    last = len(made.logits) - 1
    found = {f"gen.{name}.idx.{step}": codes for step, codes in enumerate(made.codes)}
    found |= {f"gen.{name}.logits_cfg.{step}": logits for step, logits in enumerate(made.logits)}
    found[f"gen.{name}.logits_cfg_mid"] = made.logits[(last + 1) // 2]
    found[f"gen.{name}.logits_cfg_last"] = made.logits[last]
    return found


def split_maps(codes: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """[B, L] -> [B, n] of each map."""
    return list(codes.split([rows * columns for rows, columns in shapes], dim=1))
