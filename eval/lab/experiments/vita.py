"""VITA (arXiv 2511.19859): does one codebook for what will be seen and for what to do make better plans, does
it need the right frames for that, and do both sorts of data use the same codes at all?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.eval.lab.arms import SEED_STRIDE, output
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    not_applicable,
)
from unified.eval.lab.experiments.future_sight_drive import SCORES, Drives, drives, scores
from unified.eval.lab.ground import streams
from unified.eval.lab.ground.bases import MOST_SIDE
from unified.eval.lab.ground.scenes import SIDE
from unified.eval.lab.ground.streams import Parts, Piece
from unified.eval.lab.ground.tokenizers import as_images
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes
from unified.tasks.roads.traffic import TURNS, WAYPOINTS
from unified.tokenizers.shared_latent import SharedLatent, SharedLatentConfig, overlap

from unified.decoding.grammar import in_turn
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.stream.vocabulary import Vocabulary

WARMUP, SHARE = 1.0, 0.4  # of the base models' steps: autoencoders; each policy
CODES, TOKENS = 64, 4
SCALE = 4.5  # metres that a box moves in half a second at most
EVERY, LOOKED = 25, 256  # steps between restarts of dead codes, and samples that are looked at then
GREEDY = Sampler(temperature=0)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """`latent`: which autoencoder, "actions" or "both"; `thinks`: "" or what stands before the action codes,
    "frames" or "filler"; `sees`: what the frame decoder is taught in stage two, "" for nothing."""

    latent: str
    thinks: str = ""
    sees: str = ""


POLICIES = {
    "actions alone": Policy(latent="actions"),
    "serial": Policy(latent="actions", thinks="frames"),
    "filler": Policy(latent="actions", thinks="filler"),
    "shared": Policy(latent="both", sees="true"),
    "shared, blind": Policy(latent="both"),
    "shared, foreign frames": Policy(latent="both", sees="foreign"),
}


# Autoencoders -----------------------------------------------------------------------------------------------


def chunks(plans: np.ndarray) -> Tensor:
    """Plans [N, 6, 2] in metres -> [N, 6, 2]: the way of each half second, about [-1, 1]."""
    before = np.concatenate([np.zeros_like(plans[:, :1]), plans[:, :-1]], axis=1)
    return torch.from_numpy((plans - before) / SCALE).float()


def plans_of(actions: Tensor) -> np.ndarray:
    """The inverse."""
    found: np.ndarray = (actions.double() * SCALE).cumsum(dim=1).numpy()
    return found


def config_of(sizes: Sizes) -> SharedLatentConfig:
    small = min(CODES, 2 * sizes.tokenizer.codes)
    return SharedLatentConfig(codes=small, tokens=TOKENS, steps=WAYPOINTS, channels=2, side=SIDE)


@dataclass(frozen=True)
class Pairs:
    """`now` and `later` [N, 3, 32, 32] in [-1, 1]; `actions` [N, 6, 2]; `codes` [N, 2, 64] of the pictures
    that the policy reads; `goals` [N, 1]."""

    now: Tensor
    later: Tensor
    actions: Tensor
    codes: Tensor
    goals: Tensor


def pairs_of(data: Drives, coder: Any) -> Pairs:
    now, later = (as_images(data.pictures[:, n]) for n in (1, 2))
    read = streams.codes_of(coder, data.pictures[:, :2].reshape(-1, SIDE, SIDE, 3)).unflatten(0, (-1, 2))
    return Pairs(now, later, chunks(data.plans), read, data.goals)


def warmed(trial: Trial, what: str, data: Pairs) -> SharedLatent:
    """Train an autoencoder of "frames", "actions" or "both"; frames and actions of a step are of different
    drives."""
    sizes = trial.ground.sizes
    torch.manual_seed(trial.seed)
    model = SharedLatent(config_of(sizes))
    parts = {"frames": ("frames",), "actions": ("actions",), "both": ("frames", "actions")}[what]

    def latents(part: str, chosen: Tensor) -> Tensor:
        if part == "frames":
            return model.latent_of_frames(data.now[chosen], data.later[chosen])
        return model.latent_of_actions(data.actions[chosen])

    def restart(step: int) -> None:
        chosen = streams.drawn_rows(trial.seed + 1, step, len(data.now), min(LOOKED, len(data.now)))
        with torch.no_grad():
            seen = torch.cat([latents(part, chosen).flatten(0, 1) for part in parts])
            used = torch.zeros(model.config.codes, dtype=torch.bool)
            used[model.nearest(seen[None]).flatten()] = True
        model.restart(seen, used, torch.Generator().manual_seed(step))

    def loss(step: int) -> Tensor:
        if step % EVERY == 0 and step < trial.ground.sizes.steps(WARMUP) // 2:
            restart(step)
        found = []
        for number, part in enumerate(parts):
            chosen = streams.drawn_rows(trial.seed + 2 + number, step, len(data.now), sizes.batch)
            if part == "frames":
                found.append(model.frame_loss(data.now[chosen], data.later[chosen]))
            else:
                found.append(model.action_loss(data.actions[chosen]))
        return torch.stack(found).sum()

    course = Course(steps=sizes.steps(WARMUP), what=f"{what}, seed {trial.seed}")
    train(model, loss, course, trial.work / f"latent {what}", lambda name: False)
    return model.eval()


# Policies ---------------------------------------------------------------------------------------------------


def vocabulary(sizes: Sizes) -> Vocabulary:
    """Words are goals, then codes."""
    return Vocabulary(
        text=len(TURNS) + config_of(sizes).codes,
        visual=sizes.tokenizer.codes,
        action=0,
        max_side=MOST_SIDE,
        orders=(streams.ORDER,),
        appended=(),
    )


class Acting(nn.Module):
    """A policy with the decoders of its codes; their codebook is frozen."""

    def __init__(self, sizes: Sizes, latent: SharedLatent, seed: int) -> None:
        super().__init__()
        self.model = streams.small_model(sizes, vocabulary(sizes), seed)
        self.latent = latent
        for name, weight in latent.named_parameters():
            weight.requires_grad_(name.startswith(("do.", "show.", "before.", "motion.")))


def asked(data: Pairs, chosen: Tensor | slice) -> Parts:
    codes = data.codes[chosen]
    shown = (Piece("read", codes[:, 0]), Piece("read", codes[:, 1]))
    return ("ask", *shown, Piece("text", data.goals[chosen]), "answer")


def taught(trial: Trial, name: str, data: Pairs, latents: dict[str, SharedLatent]) -> Acting:
    """Cross-entropy of the action encoder's codes and, from the mean code under what is predicted, the errors
    of actions and frames."""
    sizes, kind = trial.ground.sizes, POLICIES[name]
    own = SharedLatent(config_of(sizes))
    own.load_state_dict(latents[kind.latent].state_dict())
    policy, first = Acting(sizes, own, trial.seed), len(TURNS)
    batch = max(2, sizes.batch // 2)
    with torch.no_grad():
        acted = own.nearest(own.latent_of_actions(data.actions))
        seen = thought_ids(kind.thinks, latents, data)

    def loss(step: int) -> Tensor:
        chosen = streams.drawn_rows(trial.seed, step, len(data.now), batch)
        before = () if seen is None else (Piece("text", seen[chosen] + first, scored=True),)
        answer = (*before, Piece("text", acted[chosen] + first, scored=True))
        rows = streams.joined(policy.model.vocabulary, (*asked(data, chosen), *answer, "close"))
        found = output(policy.model, rows)
        assert found.loss is not None
        assert found.hidden_states is not None
        states = found.hidden_states[:, -TOKENS - 2 : -2]  # each before its code; `end` is the last id
        logits = policy.model.text_logits(states)[..., first : first + own.config.codes]
        soft = logits.softmax(dim=-1) @ own.table()
        total = found.loss + F.mse_loss(own.actions(soft), data.actions[chosen])
        if kind.sees:
            later = data.later[chosen]
            later = later.roll(1, dims=0) if kind.sees == "foreign" else later
            total = total + F.l1_loss(own.frames(data.now[chosen], soft), later)
        return total

    course = Course(steps=sizes.steps(SHARE), what=f"{name}, seed {trial.seed}")
    train(policy, loss, course, trial.work / name)
    return policy.eval()


def thought_ids(thinks: str, latents: dict[str, SharedLatent], data: Pairs) -> Tensor | None:
    """[N, L]: the codes before those of actions."""
    if not thinks:
        return None
    model = latents["frames"]
    found = model.nearest(model.latent_of_frames(data.now, data.later))
    return torch.zeros_like(found) if thinks == "filler" else found


@torch.no_grad()
def planned(trial: Trial, policy: Acting, kind: Policy, data: Pairs, foreign: bool = False) -> Tensor:
    """[N, 6, 2]: actions from greedy codes; `foreign`: after the thought of the row before."""
    words, first, found = policy.model.vocabulary, len(TURNS), []
    codes = range(first, words.text)
    most = trial.ground.sizes.rows
    for start in range(0, len(data.now), most):
        lines = streams.prompts(words, asked(data, slice(start, start + most)))
        if kind.thinks:
            thought = said(policy, lines, [codes] * TOKENS, trial.seed * SEED_STRIDE + start)
            thought = thought.roll(1, dims=0) if foreign else thought
            lines = [[*line, *ids] for line, ids in zip(lines, thought.tolist(), strict=True)]
        ids = said(policy, lines, [codes] * TOKENS, trial.seed * SEED_STRIDE + start)
        found.append(policy.latent.actions(policy.latent.vectors(ids - first)))
    return torch.cat(found)


def said(policy: Acting, lines: list[list[int]], slots: list[range], seed: int) -> Tensor:
    """[B, L]: ids that follow, one of each slot."""
    session = Session(policy.model, rows=len(lines), seed=seed)
    session.feed(lines)
    options: dict[str, Any] = {"max_tokens": len(slots), "draw": False, "end": False}
    return torch.tensor(list(session.text(sampler=GREEDY, grammar=in_turn(slots), **options))).T


# Arms -------------------------------------------------------------------------------------------------------


def everything(trial: Trial) -> Numbers:
    """Autoencoders and six policies for a seed."""
    sizes, cache = trial.ground.sizes, trial.ground.cache
    data = drives("train", 0, max(4, sizes.scenes // 8), cache)
    count = max(2, sizes.prompts)
    test = drives("test", trial.seed * count, count, cache)
    coder = streams.picture_tokenizer(data.pictures.reshape(-1, SIDE, SIDE, 3), sizes, trial.work / "vq")
    train_pairs, test_pairs = pairs_of(data, coder), pairs_of(test, coder)
    latents = {what: warmed(trial, what, train_pairs) for what in ("frames", "actions", "both")}
    found: Numbers = {"mean plan": scores(np.zeros_like(test.plans) + data.plans.mean(axis=0), test)}
    found["overlap"] = shared_codes(latents["both"], test_pairs)
    for name, kind in POLICIES.items():
        policy = taught(trial, name, train_pairs, latents)
        began = time.perf_counter()
        actions = planned(trial, policy, kind, test_pairs)
        seconds = (time.perf_counter() - began) / count
        found[name] = {**scores(plans_of(actions), test), "seconds": seconds}
        if kind.thinks == "frames":
            away = planned(trial, policy, kind, test_pairs, foreign=True)
            found["serial, foreign codes"] = scores(plans_of(away), test)
    return found


@torch.no_grad()
def shared_codes(model: SharedLatent, data: Pairs) -> Numbers:
    """`overlap`, and how well the codes of either sort stand for it."""
    seen = model.nearest(model.latent_of_frames(data.now, data.later))
    acted = model.nearest(model.latent_of_actions(data.actions))
    return {
        **overlap(seen, acted, model.config.codes),
        "frames": float(F.l1_loss(model.frames(data.now, model.vectors(seen)), data.later)),
        "still": float(F.l1_loss(data.now, data.later)),
        "actions": float(F.mse_loss(model.actions(model.vectors(acted)), data.actions)),
    }


def judge(results: Results) -> list[Criterion]:
    def beside(one: str, other: str, name: str = "l2") -> list[float]:
        both = (results.values("all", f"{arm}/{name}") for arm in (one, other))
        return [a / max(b, 1e-9) for a, b in zip(*both, strict=True)]

    what = "(1) L2 of the shared codebook beside that of actions alone"
    shared = at_least(
        "(4) share of codes that frames and actions use alike", results.values("all", "overlap/shared"), 0.5
    )
    learnt = beside("actions alone", "mean plan")
    if sum(learnt) / len(learnt) > 0.8:
        why = (
            f"a policy of actions alone has {sum(learnt) / len(learnt):.2f} of the error of one plan for all"
        )
        return [shared, not_applicable(what, why, central=True)]
    blind, foreign = beside("shared", "shared, blind"), beside("shared", "shared, foreign frames")
    away = beside("serial, foreign codes", "serial")
    slower = beside("serial", "shared", "seconds")
    return [
        at_most(what, beside("shared", "actions alone"), 1.0),
        at_most("(2) beside a shared codebook whose policy is taught no frames", blind, 1.0),
        at_most("(3) beside one that is taught frames of others", foreign, 0.98),
        shared,
        at_least("(5) L2 after codes of another's frames beside one's own", away, 1.05),
        at_most(
            "(6) L2 after codes of frames beside as many without meaning", beside("serial", "filler"), 0.98
        ),
        at_least("(7) seconds of a serial plan beside one of shared codes", slower, 1.2),
    ]


EXPERIMENT = Experiment(
    name="vita",
    what="plans as codes of one codebook for frames and actions, of two in turn, or of actions alone",
    arms={"all": everything},
    judge=judge,
    minutes=26,
    scaled="a junction from above at 32 x 32; a chunk is a plan of six steps; 64 codes, four a chunk; the "
    "action encoder's codes are what the policy is taught; convolutions in place of pretrained features; no "
    "third stage, no curve over the share of paired data; policies of an eighth of a base model's inner "
    "size, 240 steps each",
    shown=(*SCORES, "seconds", "shared", "information"),
)
