"""EAR's released training of a Llama on its own tokens against a golden folder (`python -m
unified.checkpoints verify`): losses, windows, gradients and final weights.

In the release a token is fed alone after the first step, without what came before; the tokens were drawn from
an unknown state of the random generator, and are taken as stored. Tolerances are those recommended in
`ear/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import LlamaConfig, LlamaModel

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.state_dict import load_strict
from unified.checkpoints.transformer_verify import needed
from unified.objectives.erasure import Window, erasure_target

LLAMA = "language_model.model."
NUMBERS = (
    "V",
    "hidden",
    "layers",
    "heads",
    "kv",
    "inter",
    "steps",
    "window",
    "lr",
    "pad_id",
    "eta",
    "threshold",
)
STREAMS = 3  # concept, neutral, target


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds training of EAR."""
    return config.get("case") == "ear"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    missing = [name for name in NUMBERS if not isinstance(config.get(name), int | float)]
    missing += [name for name in ("prompts", "trained") if not isinstance(config.get(name), list)]
    if missing:
        raise ValueError(f"{folder}: config.json lacks {missing[0]}")
    computed = _trained(config, Model.of(config, read_state(folder, config)), stored)
    yield from compare(stored, computed, lambda name: name == "tokens", _tolerance)


def _tolerance(name: str) -> Tolerance:
    if name.startswith("final."):
        return Tolerance(2e-5)
    if name.startswith("first_update_grad."):
        return Tolerance(2e-8, 1e-3)
    return Tolerance(1e-5 if "hidden" in name else 1e-6)


@dataclass(frozen=True)
class Model:
    """`embed`: tokens of an image [...] -> inputs [..., D], by a table and two linear maps."""

    llama: LlamaModel
    embed: nn.Sequential

    @staticmethod
    def of(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Model:
        """ValueError if weights do not fit."""
        build: Any = LlamaConfig
        llama = LlamaModel(
            build(
                vocab_size=config["V"],
                hidden_size=config["hidden"],
                num_hidden_layers=config["layers"],
                num_attention_heads=config["heads"],
                num_key_value_heads=config["kv"],
                intermediate_size=config["inter"],
                attn_implementation="eager",
            )
        )
        own = {k.removeprefix(LLAMA): v for k, v in state.items() if k.startswith(LLAMA)}
        load_strict(llama, own)
        table, first, second = (
            needed(state, name)
            for name in ("gen_embed.weight", "gen_aligner.0.weight", "gen_aligner.2.weight")
        )
        embed = nn.Sequential(
            nn.Embedding(*table.shape), nn.Linear(*first.T.shape), nn.GELU(), nn.Linear(*second.T.shape)
        )
        names = {"0.weight": "gen_embed.weight"}
        names |= {f"{n + 1}.{part}": f"gen_aligner.{n}.{part}" for n in (0, 2) for part in ("weight", "bias")}
        load_strict(embed, {name: needed(state, official) for name, official in names.items()})
        return Model(llama.eval().requires_grad_(False), embed.eval().requires_grad_(False))

    def hidden(self, inputs: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """[R, n, D] -> last hidden states, with some weights in place of the model's own."""
        given = {"inputs_embeds": inputs, "use_cache": False}
        if weights is None:
            return self.llama(**given).last_hidden_state
        return functional_call(self.llama, dict(weights), (), given).last_hidden_state


def prompt_rows(ids: Sequence[int], pad: int) -> Tensor:
    """[2, n]: the ids, and those of no prompt: all but the first and the last are padding."""
    null = [ids[0], *[pad] * (len(ids) - 2), ids[-1]]
    return torch.tensor([list(ids), null])


def _trained(config: Mapping[str, Any], model: Model, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Training on all prompts, by the names of what is stored."""
    known = dict(model.llama.named_parameters())
    unknown = [name for name in config["trained"] if name not in known]
    if unknown:
        raise ValueError(f"the model has no parameter {unknown[0]!r} to train")
    weights = {name: known[name].clone().requires_grad_() for name in config["trained"]}
    optimiser = torch.optim.Adam(weights.values(), lr=config["lr"])
    tokens = needed(stored, "tokens")
    found: dict[str, Tensor] = {}
    wanted = (len(config["prompts"]), config["steps"], STREAMS)
    if tuple(tokens.shape) != wanted:
        raise ValueError(f"tokens have the shape {tuple(tokens.shape)}, expected {wanted}")
    losses, sums, updated = [], [], []
    for number, (concept, neutral) in enumerate(config["prompts"]):
        window = Window(config["window"], config["threshold"])
        inputs = _first(config, model, concept, neutral)
        for step in range(config["steps"]):
            with torch.no_grad():
                frozen = [model.hidden(part) for part in inputs]
            target = erasure_target(frozen[0], frozen[1], frozen[2], config["eta"])
            student = model.hidden(inputs[0], weights)
            loss = (student - target).square().mean()
            losses.append(loss.detach())
            if not number:
                found |= {f"student_hidden.{step}": student.detach(), f"target_hidden.{step}": target}
            total = window.add(loss)
            if total is not None:
                sums.append(total.detach())
                updated.append(window.steps(total))
                if updated[-1]:
                    optimiser.zero_grad()
                    total.backward()
                    if sum(updated) == 1:
                        gradients = {k: w.grad for k, w in weights.items() if w.grad is not None}
                        found |= {f"first_update_grad.{k}": g.clone() for k, g in gradients.items()}
                    optimiser.step()
            inputs = [model.embed(token).expand(2, 1, -1) for token in tokens[number, step]]
    rows = len(config["prompts"])
    found |= {f"final.{name}": weight.detach() for name, weight in weights.items()}
    return {
        **found,
        "step_loss": torch.stack(losses).view(rows, -1),
        "window_loss": torch.tensor(sums).view(rows, len(sums) // max(rows, 1)),
        "window_updated": torch.tensor(updated).view(rows, len(updated) // max(rows, 1)),
    }


def _first(
    config: Mapping[str, Any], model: Model, concept: Sequence[int], neutral: Sequence[int]
) -> list[Tensor]:
    """Inputs [2, n, D] of the three streams: the concept's prompt, and twice the other, cut or padded to its
    length."""
    pad, length = config["pad_id"], len(concept)
    other = [*neutral, *[pad] * length][:length]
    rows = [prompt_rows(ids, pad) for ids in (concept, other, other)]
    return [model.llama.embed_tokens(ids) for ids in rows]
