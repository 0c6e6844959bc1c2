"""LANTERN's verification, draft trees and drafter against a golden folder (`python -m unified.checkpoints
verify`). Tolerances are those recommended in `lantern/README.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.lantern.drafting import Drafting, draft_dynamic, draft_static, without_replacement
from unified.checkpoints.lantern.loss import GUIDANCE, drafter_loss
from unified.checkpoints.lantern.network import Drafter, causal, load
from unified.checkpoints.lantern.verification import Draft, Processor, ReleasedRule, greedy_walk, walk
from unified.checkpoints.transformer_verify import needed
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.relaxation import neighbour_table

INPUTS = ("random", "target_logits", "token", "draft_probs", "next_logits", "node_logits", "draft_tokens",
          "draft_rows", "input_ids", "hidden", "draft_input_ids", "next_ids",
          "next_hidden", "attention_mask", "loss_mask", "target")  # fmt: skip
TAIL = 117, 139  # rows of the rotary table that are stored of a drafter for captions


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds cases of LANTERN."""
    return config.get("case") == "lantern"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    trees = {name: DraftTree.of(choices) for name, choices in _object(config, "trees").items()}
    computed = {"neighbours": neighbour_table(needed(stored, "codebook"))}
    computed |= _single(config, stored)
    for name, tree in trees.items():
        computed |= _buffers(stored, name, tree)
        for run, told in _object(config, "tree_runs").items():
            rule = _rule(computed["neighbours"], told)
            computed |= _tree_run(config, stored, f"tree.{name}.{run}", tree, rule, told)
    if "lumina" in config:
        computed |= _lumina(config, stored, trees)
    state = read_state(folder, config)
    for name, told in _object(config, "drafters").items():
        computed |= _drafter(config, stored, state, trees, name, told)
    yield from compare(stored, computed, lambda name: _is_input(name, stored), _tolerance)


def _object(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """ValueError unless config.json has an object under this name."""
    found = config.get(name)
    if not isinstance(found, dict):
        raise ValueError(f"config.json lacks {name}")
    return found


def _option(options: Mapping[str, Any], name: str) -> Any:
    if name not in options:
        raise ValueError(f"a case of config.json lacks {name}")
    return options[name]


def _is_input(name: str, stored: Mapping[str, Tensor]) -> bool:
    """`next_logits` are given of single chains, and computed by greedy walks."""
    prefix, _, last = name.rpartition(".")
    if last == "next_logits":
        return f"{prefix}.target_logits" in stored
    return last in INPUTS or name == "codebook"


def _tolerance(name: str) -> Tolerance:
    if ".grad." in name:
        return Tolerance(1e-5, 1e-3)
    if name.endswith("loss"):
        return Tolerance(0.0, 1e-4)
    return Tolerance(1e-5 if name.endswith(("distribution", "probs", "rows", "rope")) else 2e-4)


# Verification of drafts -------------------------------------------------------------------------------------


def _rule(neighbours: Tensor, told: Mapping[str, Any], **more: Any) -> ReleasedRule:
    """The rule of a run. ValueError for an unknown kind of tree."""
    kind = _option(told, "rule")
    if kind not in ("dynamic", "static"):
        raise ValueError(f"unknown rule {kind!r}: known are dynamic and static")
    return ReleasedRule(
        neighbours=neighbours,
        nearest=_option(told, "k"),
        delta=_option(told, "delta"),
        relaxed=_option(told, "lantern"),
        kind=kind,
        **more,
    )


def _single(config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Chains of one drafted token: a tree of one node, whose draft is given whole."""
    found, law = {}, Processor.of(_object(config, "processor"))
    table, tree = neighbour_table(needed(stored, "codebook")), DraftTree.of([[0]], 1)
    for case, told in _object(config, "single").items():
        for kind in ("dynamic", "static"):
            prefix = f"single.{kind}.{case}"
            if f"{prefix}.accepted" not in stored:
                continue
            rule = _rule(table, {**told, "rule": kind})
            names = ("target_logits", "token", "random", "next_logits")
            given = [needed(stored, f"{prefix}.{name}") for name in names]
            rows = stored.get(f"{prefix}.draft_probs", [None] * len(given[0]))
            walks = []
            for first, token, uniform, then, row in zip(*given, rows, strict=True):
                tokens = torch.tensor([[-2, int(token)]])  # the root is never compared
                draft = Draft(tree, tokens, *(() if row is None else (row[token].view(1, 1), row[None])))
                walks.append(walk(rule, law, torch.stack([first, then]), draft, uniform[None]))
            found[f"{prefix}.accepted"] = torch.tensor([one.length for one in walks])
            found[f"{prefix}.distribution"] = torch.stack([one.distribution for one in walks])
    return found


def _tree_run(
    config: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    prefix: str,
    tree: DraftTree,
    rule: ReleasedRule,
    told: Mapping[str, Any],
    law: Any = None,
) -> dict[str, Tensor]:
    """The walks of one run. Of `candidates` the root's token is taken as it is."""
    if f"{prefix}.best" not in stored:
        return {}
    law = law or Processor.of(_object(config, "processor"))
    logits, drafted = needed(stored, f"{prefix}.node_logits"), needed(stored, f"{prefix}.draft_tokens")
    root = needed(stored, f"{prefix}.candidates")[:, 0, 0]
    paths = tree.leaf_paths
    table = torch.cat([root[:, None], drafted.flatten(1)], dim=1)[:, tree.table_index]
    candidates = torch.where(paths >= 0, table[:, paths], -1)
    found = {"candidates": candidates}
    if _option(told, "processor") == "greedy":
        pairs = zip(logits, candidates, strict=True)
        greedy = [greedy_walk(rule, one, tree, tokens) for one, tokens in pairs]
        found |= _counts(greedy)
        found["next_logits"] = torch.stack([one.logits for one in greedy])
    else:
        random = needed(stored, f"{prefix}.random")
        given: tuple[Any, Any] = tuple(  # type: ignore[assignment]
            stored.get(f"{prefix}.{name}", [None] * len(logits))
            for name in ("draft_token_probs", "draft_rows")
        )
        chances, rows = given
        if rows[0] is not None:
            found["draft_token_probs"] = without_replacement(rows.gather(-1, drafted))
        drafts = [Draft(tree, *parts) for parts in zip(candidates, chances, rows, strict=True)]
        if rule.kind == "static" and drafts[0].rows is None:
            raise ValueError(f"io.safetensors has no {prefix}.draft_rows to compute the other tensors from")
        walks = [walk(rule, law, *one) for one in zip(logits, drafts, random, strict=True)]
        found |= _counts(walks)
        found["distribution"] = torch.stack([one.distribution for one in walks])
        found["random_used"] = torch.tensor([one.used for one in walks])
    return {f"{prefix}.{name}": value for name, value in found.items()}


def _counts(walks: list[Any]) -> dict[str, Tensor]:
    return {
        "best": torch.tensor([one.best for one in walks]),
        "accept_length": torch.tensor([one.length for one in walks]),
    }


def _buffers(stored: Mapping[str, Tensor], name: str, tree: DraftTree) -> dict[str, Tensor]:
    """Index tensors of a tree. Of parents and siblings, places of the root and of the filling mean nothing,
    and are taken as stored."""
    prefix, paths = f"tree.{name}.", tree.leaf_paths
    by_depth = {node: sum(len(tree.nodes[other]) == len(tree.nodes[node]) for other in tree.inner[:row])
                for row, node in enumerate(tree.inner)}  # fmt: skip
    parents = needed(stored, f"{prefix}p_indices").clone()
    siblings = needed(stored, f"{prefix}b_indices").clone()
    for path in range(len(paths)):
        for depth in range(1, paths.shape[1]):
            node = int(paths[path, depth])
            if node >= 0:
                parents[path, depth] = by_depth[int(paths[path, depth - 1])]
                before = tree.siblings(node)
                row = torch.full_like(siblings[path, depth], -1)
                row[: len(before)] = torch.tensor(before, dtype=row.dtype)
                siblings[path, depth] = row
    return {
        f"{prefix}attn_mask": tree.attention,
        f"{prefix}position_ids": tree.depths,
        f"{prefix}indices": tree.table_index,
        f"{prefix}retrieve_indices": paths,
        f"{prefix}p_indices": parents,
        f"{prefix}b_indices": siblings,
    }


def _lumina(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], trees: Mapping[str, DraftTree]
) -> dict[str, Tensor]:
    """The walks in a vocabulary of text and image."""
    told = config["lumina"]
    found: dict[str, Tensor] = {}
    offset, syntax = _option(told, "offset"), frozenset(_option(told, "syntax"))
    if _option(told, "tree") not in trees:
        raise ValueError(f"config.json has no tree {told['tree']!r}")
    table = neighbour_table(needed(stored, "codebook"))
    for run, options in _option(told, "runs").items():
        rule = _rule(table, options, offset=offset, syntax=syntax, images_alone=False)
        tree = trees[told["tree"]]
        found |= _tree_run(config, stored, f"lumina.{run}", tree, rule, options, Processor())
    return found


# The drafter ------------------------------------------------------------------------------------------------


def _drafter(
    config: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    trees: Mapping[str, DraftTree],
    name: str,
    told: Mapping[str, Any],
) -> dict[str, Tensor]:
    """All tensors of one drafter."""
    prefix, start = f"drafter.{name}.", f"{name}.ea_layer."
    own = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
    model, head = load(_option(told, "config"), own), needed(state, f"{name}.lm_head.weight")
    ids, hidden = needed(stored, f"{prefix}input_ids"), needed(stored, f"{prefix}hidden")
    cut = _option(told, "cut")
    with torch.no_grad():
        output, cache = model(ids, hidden)
        _, first = model(ids[:, :cut], hidden[:, :cut])
        tail, _ = model(ids[:, cut:], hidden[:, cut:], cache=first)
        table = model.rope[slice(*TAIL)] if model.config.prefix else model.rope
        found = {"rope": table, "output": output, "key_cache": cache[0], "output_tail_cached": tail}
        for run, options in _option(told, "draft_runs").items():
            drawn = _drafted(config, stored, trees, told, options, model, head, prefix, run)
            found |= {f"{run}.{key}": value for key, value in drawn.items()}
    for loss, guidance in (("plain", None), ("cfg_loss", GUIDANCE)):
        if f"{prefix}train.{loss}.loss" in stored:
            trained = _trained(stored, prefix, model, head, guidance)
            found |= {f"train.{loss}.{key}": value for key, value in trained.items()}
    return {f"{prefix}{key}": value for key, value in found.items()}


def _trained(
    stored: Mapping[str, Tensor], prefix: str, model: Drafter, head: Tensor, guidance: float | None
) -> dict[str, Tensor]:
    """Losses and gradients."""
    names = ("input_ids", "hidden", "train.target", "train.loss_mask", "train.attention_mask")
    ids, hidden, target, mask, kept = (needed(stored, prefix + name) for name in names)
    model.zero_grad()
    output, _ = model(ids, hidden, seen=causal(ids.shape[1]) & kept.bool()[:, None])
    loss = drafter_loss(output, target, head, mask, guidance)
    loss.total.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    parts = {"loss": loss.total, "feature_loss": loss.features, "token_loss": loss.tokens}
    return {**{name: value.detach() for name, value in parts.items()}, **gradients}


def _drafted(
    config: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    trees: Mapping[str, DraftTree],
    told: Mapping[str, Any],
    options: Mapping[str, Any],
    model: Drafter,
    head: Tensor,
    prefix: str,
    run: str,
) -> dict[str, Tensor]:
    """Trees that a drafter makes."""
    ids, hidden = needed(stored, f"{prefix}draft_input_ids"), needed(stored, f"{prefix}hidden")
    scale, sampled = _option(options, "cfg"), _option(options, "sampled")
    drafting = Drafting.begin(model, head, scale, ids[:, 1:], hidden)
    processor = Processor.of(_object(config, "processor"))
    if _option(options, "kind") == "static":
        if _option(options, "tree") not in trees:
            raise ValueError(f"config.json has no tree {options['tree']!r}")
        rng = torch.Generator().manual_seed(_option(options, "seed")) if sampled else None
        made = draft_static(drafting, trees[options["tree"]], processor if sampled else None, rng)
        found = {"tokens": made.tokens, "guided_logits": made.logits.gather(-1, made.tokens)}
        if made.laws is not None:
            rows = needed(
                stored, f"{prefix}{run}.rows"
            )  # 1 - p_1 - ... is nothing but rounding at some ranks
            chances = without_replacement(rows.gather(-1, made.tokens))
            found |= {"rows": made.laws, "probs": chances}
        return found
    sizes = {"depth": _option(told, "depth"), "total": _option(told, "total_tokens")}
    process = processor.logits if sampled else None
    found = _dynamic(drafting, int(ids[0, -1]), sizes, process)
    if f"{prefix}{run}.next_ids" in stored:
        more = stored[f"{prefix}{run}.next_ids"].expand(2, -1)
        states = needed(stored, f"{prefix}{run}.next_hidden")
        then = Drafting.begin(model, head, scale, more, states, drafting.cache)
        after = _dynamic(then, int(more[0, -1]), sizes, process)
        found |= {f"next.{key}": value for key, value in after.items()}
    return found


def _dynamic(drafting: Drafting, root: int, sizes: Mapping[str, int], process: Any) -> dict[str, Tensor]:
    made = draft_dynamic(drafting, root, **sizes, process=process)
    return {
        "tokens": made.tokens[None],
        "tree_mask": made.seen,
        "position_ids": made.depths,
        "retrieve_indices": made.paths,
    }
