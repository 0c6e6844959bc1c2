"""FLASH (arXiv 2505.12728): how many words does a pass of the model yield if a drafter guesses several at
once from a compressed picture, and does it need to see the picture at all?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
)
from unified.eval.lab.ground import reading
from unified.eval.lab.ground.scenes import CAPTION
from unified.eval.lab.ground.training import Course, train

from unified.checkpoints.flash.network import FlashConfig, FlashDrafter, shortened
from unified.decoding.strategies.feature_draft import feature_loss
from unified.model import UnifiedModel

TARGET_SHARE, SHARE, RATE = 1.2, 0.4, 1e-3
AHEAD, LATENTS = 4, 8
NOISE = 0.2  # of the hidden states that a drafter learns from
ATTRIBUTES = (1, 2, 3, 4, 5, 6, 7, 8)  # words that the picture decides; the first, the ground, is one of few


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`ahead`: words of a draft; `image`: what of the picture the drafter is given: `latents` pooled, the
    `whole`, or `nothing`."""

    ahead: int = AHEAD
    image: str = "latents"


KINDS = {
    "flash": Kind(),
    "single": Kind(ahead=1),
    "uncompressed": Kind(image="whole"),
    "blind": Kind(image="nothing"),
}


# The drafter ------------------------------------------------------------------------------------------------


def sequence(drafter: FlashDrafter, kind: Kind, hidden: Tensor, picture: slice, after: Tensor) -> Tensor:
    """What a drafter reads: of the target's hidden states [B, T, D] those of the picture, as `kind` says, and
    the inputs `after` [B, n, D] of the text behind it."""
    states = hidden[:, picture]
    if kind.image == "latents":
        states = drafter.compression(states)
    elif kind.image == "nothing":
        states = states[:, :0]
    return shortened(states[:, :0], states, after)


def predicted(
    drafter: FlashDrafter, kind: Kind, ids: Tensor, hidden: Tensor, picture: slice, start: int
) -> Tensor:
    """[B, n, k, D]: hidden states of the positions 1 to k behind each position from `start` - 1 on. ids
    [B, T] and the target's hidden states of the same positions; position j reads the state of j and the id
    of j + 1."""
    after = drafter.inputs(ids[:, start:], hidden[:, start - 1 : -1])
    read = sequence(drafter, kind, hidden, picture, after)
    found: Tensor = drafter.layers(read)[:, -after.shape[1] :]
    return found


def trained(trial: Trial, name: str, model: UnifiedModel, data: tuple[Tensor, Tensor]) -> FlashDrafter:
    """On the target's own hidden states of training captions."""
    kind, sizes = KINDS[name], trial.ground.sizes
    torch.manual_seed(trial.seed)
    config = FlashConfig(
        codes=model.vocabulary.table_size,
        width=model.width,
        heads=sizes.model.part(0.5, 0.5).heads,
        groups=1,
        ahead=kind.ahead,
        latents=LATENTS,
    )
    drafter = FlashDrafter(config)
    captions, vectors = data

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(1_000_000 * trial.seed + step)
        chosen = torch.randint(len(captions), (sizes.batch,), generator=generator)
        rows = reading.told(model.vocabulary, captions[chosen], vectors[chosen])
        with torch.no_grad():
            hidden = model.states(rows.ids, rows.layout, rows.values)[0]
        picture, start = places(model)
        noisy = hidden + NOISE * torch.randn(hidden.shape, generator=generator)
        found = predicted(drafter, kind, rows.ids, noisy, picture, start)  # [B, n, k, D]
        total = found.new_zeros(())
        for offset in range(kind.ahead):
            target = hidden[:, start + offset :]
            own = found[:, : target.shape[1], offset]
            mask = torch.ones_like(own[..., 0])
            logits, wanted = model.text_logits(own), model.text_logits(target)
            total = total + feature_loss(own, target, logits, wanted, mask).total
        return total / kind.ahead

    course = Course(steps=sizes.steps(SHARE), rate=RATE, what=f"{name} drafter, seed {trial.seed}")
    train(drafter, loss, course, trial.work / name)
    return drafter


def places(model: UnifiedModel) -> tuple[slice, int]:
    """Of rows of pictures: where the picture stands, and the first word of the caption."""
    image = reading.image_places(model.vocabulary, 1)[0].nonzero()[:, 0]
    return slice(int(image[0]), int(image[-1]) + 1), len(reading.opening(model.vocabulary, True))


# Decoding ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def speculated(
    model: UnifiedModel, drafter: FlashDrafter, kind: Kind, vectors: Tensor
) -> tuple[Tensor, Numbers]:
    """Captions [N, 9], greedily: rounds of a draft and a pass of the model over all words so far. Each
    picture counts its own passes. The share of drafted words that is accepted `by_place` in a draft, and of
    words about objects (`attributes`)."""
    (picture, start), count = places(model), len(vectors)
    words = torch.zeros(count, CAPTION, dtype=torch.long)
    known = torch.zeros(count, dtype=torch.long)  # words that are decided
    passes, drafted, accepted = torch.zeros(count), torch.zeros(AHEAD), torch.zeros(AHEAD)
    about, right = 0, 0
    guesses = torch.zeros(count, dtype=torch.long)  # words of the round's draft
    while bool((known < CAPTION).any()):
        rows = reading.told(model.vocabulary, words, vectors)
        hidden = model.states(rows.ids, rows.layout, rows.values)[0]
        best = likeliest(model, hidden[:, start - 1 : start + CAPTION - 1])
        going = known < CAPTION
        passes += going.float()
        for row in going.nonzero()[:, 0].tolist():
            first, number = int(known[row]), int(guesses[row])
            same = 0
            while same < number and words[row, first + same] == best[row, first + same]:
                same += 1
            for place in range(number):
                drafted[place] += place <= same
                accepted[place] += place < same
                if place <= same and first + place in ATTRIBUTES:
                    about, right = about + 1, right + (place < same)
            stop = min(first + same + 1, CAPTION)
            words[row, first:stop] = best[row, first:stop]
            known[row] = stop
        guesses = draft(model, drafter, kind, words, known, hidden, picture, start)
    found = {
        "passes": float(passes.mean()),
        "words_a_pass": float(CAPTION / passes.mean()),
        "by_place": (accepted / drafted.clamp(min=1)).tolist(),
        "attributes": right / max(about, 1),
    }
    return words, found


def likeliest(model: UnifiedModel, states: Tensor) -> Tensor:
    """Of hidden states [..., D], the likeliest ids [...] of those that a session may say here: words, and the
    border between parts."""
    allowed = torch.tensor([*range(model.vocabulary.text), model.vocabulary.part])
    return allowed[model.text_logits(states)[..., allowed].argmax(dim=-1)]


def draft(
    model: UnifiedModel,
    drafter: FlashDrafter,
    kind: Kind,
    words: Tensor,
    known: Tensor,
    hidden: Tensor,
    picture: slice,
    start: int,
) -> Tensor:
    """Write guesses of the next words into `words` [N, 9]; how many of each row [N]. The state of the last
    known word has not been computed yet: a draft begins at the state before it."""
    ids = torch.cat([torch.zeros(len(words), start, dtype=torch.long), words], dim=1)
    ids = torch.cat([ids, ids[:, :1]], dim=1)
    states = predicted(drafter, kind, ids, hidden, picture, start)
    counts = (CAPTION - known).clamp(max=kind.ahead)
    for row, (first, number) in enumerate(zip(known.tolist(), counts.tolist(), strict=True)):
        if number:
            words[row, first : first + number] = likeliest(model, states[row, first - 1, :number])
    return counts


def everything(trial: Trial) -> Numbers:
    """One captioner for a seed, and drafters of all kinds."""
    sizes, ground = trial.ground.sizes, trial.ground
    model = reading.new_reader(sizes, trial.seed)
    data = ground.captions(), reading.patches(ground.pictures())
    course = Course(steps=sizes.steps(TARGET_SHARE), what=f"captions, seed {trial.seed}")
    reading.train_reader(model, data, course, trial.work / "target", batch=sizes.batch, seed=trial.seed)
    model.requires_grad_(False)
    vectors = reading.patches(ground.pictures("validation"))
    plain = reading.said(model, vectors, rows=sizes.rows)
    found: Numbers = {"target": reading.words_right(plain, ground.captions("validation"))["words"]}
    for name, kind in KINDS.items():
        drafter = trained(trial, name, model, data)
        lines, figures = speculated(model, drafter, kind, vectors)
        found[name] = {**figures, "equal": float((lines == plain).all(dim=1).float().mean())}
    text = CAPTION + 2
    lengths = {"flash": LATENTS + text, "uncompressed": reading.CELLS**2 + text}
    return {**found, "attention": (lengths["flash"] / lengths["uncompressed"]) ** 2}


def judge(results: Results) -> list[Criterion]:
    def values(kind: str, name: str) -> list[float]:
        return results.values("all", f"{kind}/{name}")

    def ratio(one: str, other: str, name: str) -> list[float]:
        pairs = zip(values(one, name), values(other, name), strict=True)
        return [a / max(b, 1e-9) for a, b in pairs]

    seeing = [100 * (x - 1) for x in ratio("flash", "blind", "attributes")]
    return [
        holds("(a) captions are those of plain decoding", [x == 1 for x in values("flash", "equal")]),
        at_least("(c) words a pass of the model", values("flash", "words_a_pass"), 1.6),
        at_least("(d) words about objects: acceptance against a drafter that sees nothing, %", seeing, 10.0),
        at_least(
            "(e) words a pass beside the uncompressed picture",
            ratio("flash", "uncompressed", "words_a_pass"),
            0.95,
        ),
        at_most(
            "(e) attention of the draft beside the uncompressed picture",
            results.values("all", "attention"),
            0.5,
        ),
    ]


EXPERIMENT = Experiment(
    name="flash",
    what="captions by speculation: drafts of four words from a pooled picture, the whole one, or none",
    arms={"all": everything},
    judge=judge,
    minutes=11,
    scaled="captions of nine words, greedily; a captioner of an eighth of a base model's inner size, 720 "
    "steps, drafters 240; chains in place of trees, passes without a cache, which are counted, not "
    "timed; sampling by the same rule (b) is a test; no mazes",
    shown=("words_a_pass", "passes", "attributes", "equal"),
)
