"""Log-probabilities of tokens from hidden states: the target rule of one teacher-forced pass.

Text and action ids are read out at the position before them, WRITE codes where their plan says. Each sort
of token is normalised over its own sort: what stands inside an image is a code, what stands outside is not.
Logits of all targets at once can take gigabytes (10,500 codes of 160,000), so they are made in portions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from unified.bound import Bounded, BoundNoise, fixed, fresh, is_exact, step_groups
from unified.heads.distribution import Categorical, Distribution
from unified.layout.layout import IGNORED, Layout, WriteGroup
from unified.orders.read_outs import BEFORE

if TYPE_CHECKING:
    from unified.core_model import CoreModel

PORTION = 2**26  # logits that are made at once
LOGITS = 2**28  # numbers: a GiB in float32

# What is computed of predicted tokens: their distribution, their values [N, ...] -> [N] or [N, C], float32.
IGNORED_ARGUMENTS = frozenset(
    {
        "attention_mask",
        "position_ids",
        "use_cache",
        "return_dict",
    }
)
UNAVAILABLE = {  # arguments of other models that ask for what this one returns elsewhere
    "output_attentions": "`unified.load(...).attention(image, question)` gives attention maps",
    "output_hidden_states": "the output's `hidden_states` are those after the last norm",
}

Measure = Callable[[Distribution, Tensor], Tensor]


def log_prob(predicted: Distribution, values: Tensor) -> Tensor:
    """[N]: the usual measure."""
    return predicted.log_prob(values)


@dataclass
class UnifiedOutput(ModelOutput):
    """`loss`: mean negative log-likelihood of the targets (with `num_items_in_batch`, its sum over that
    number). `logits` [B, T, V]: the distribution *of* each predicted token (not of the next one), float32,
    -inf where the target rule allows no such id; None unless asked for or if the codes are more than a table
    can hold. `log_probs` [B, T]: of each target, 0 elsewhere. `segment_sums` [B, S] and `step_sums`
    [B, S, K]: their sums by segment of the row and, for WRITE segments, by step. All float32. Of codes of a
    head without a likelihood (`LATENT_HEADS`) a score is minus its denoising loss (`bound`)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    log_probs: Tensor | None = None
    segment_sums: Tensor | None = None
    step_sums: Tensor | None = None
    hidden_states: Tensor | None = None


def likelihoods(
    model: CoreModel,
    states: Sequence[Tensor],
    ids: Tensor,
    labels: Tensor | None,
    layout: Layout,
    return_logits: bool | None = None,
    num_items: Tensor | int | None = None,
    noise: BoundNoise | None = None,
) -> UnifiedOutput:
    """Of ids [B, T] from hidden states, for each head [B, T, D]; the other arguments as of
    `CoreModel.forward`."""
    wanted = layout.predicted if labels is None else layout.predicted & (labels != IGNORED)
    log_probs = token_log_probs(model, states, ids, layout, wanted, noise)
    count = wanted.sum().clamp(min=1) if num_items is None else num_items
    loss = None if labels is None else -log_probs.sum() / count
    segments, steps = sums(log_probs, layout)
    fits = ids.numel() * model.vocabulary.size <= LOGITS if return_logits is None else return_logits
    logits = token_logits(model, states, layout) if fits and model.head.symbols == 1 else None
    return UnifiedOutput(loss, logits, log_probs, segments, steps, states[0])


def check_arguments(others: Mapping[str, object]) -> None:
    """ValueError for one of `UNAVAILABLE` that is asked for; TypeError for another argument of `forward` that
    is neither one of `IGNORED_ARGUMENTS` nor None."""
    for name, instead in UNAVAILABLE.items():
        if others.get(name):
            raise ValueError(f"forward does not take {name}=True: {instead}")
    known = IGNORED_ARGUMENTS | set(UNAVAILABLE)
    unknown = sorted(name for name in set(others) - known if others[name] is not None)
    if unknown:
        raise TypeError(f"CoreModel.forward takes no argument {unknown[0]!r}")


def check_labels(ids: Tensor, labels: Tensor) -> None:
    """ValueError for labels that are neither the ids themselves nor IGNORED."""
    if labels.shape != ids.shape or bool(((labels != IGNORED) & (labels != ids)).any()):
        raise ValueError(
            "labels must be input_ids with -100 where nothing is learned: every label stands at its own id, "
            "none is shifted"
        )


def token_log_probs(
    model: CoreModel,
    states: Sequence[Tensor],
    ids: Tensor,
    layout: Layout,
    wanted: Tensor,
    noise: BoundNoise | None = None,
) -> Tensor:
    """[B, T] float32 of the tokens marked in `wanted` [B, T], 0 elsewhere. states: for each head [B, T,
    D]."""
    return measured(model, states, ids, layout, wanted, log_prob, noise=noise)


def measured(
    model: CoreModel,
    states: Sequence[Tensor],
    ids: Tensor,
    layout: Layout,
    wanted: Tensor,
    measure: Measure,
    columns: Sequence[int] = (),
    noise: BoundNoise | None = None,
) -> Tensor:
    """[B, T, *columns] float32: a measure, which gives [N, *columns], of the tokens marked in `wanted` [B,
    T], 0 elsewhere. states: for each head [B, T, D]. `noise`: as of `CoreModel.forward`."""
    words = model.vocabulary
    found = torch.zeros(*ids.shape, *columns, dtype=torch.float32, device=ids.device)
    visual = words.is_visual(ids)
    elsewhere = [group for group in layout.writes if not group.plan.own]
    own = _own(visual, elsewhere)
    rows, places = (wanted & ~visual).nonzero(as_tuple=True)
    text = states[0][rows, layout.source[rows, places]]  # [N, D]
    tokens = words.table_rows(ids[rows, places])[:, None]
    scores = scored(
        lambda x: Categorical(model.text_logits(x)[:, None]), measure, words.table_size, tokens, text
    )
    found = found.index_put((rows, places), scores)
    rows, places = (wanted & own).nonzero(as_tuple=True)
    codes = states[0][rows, layout.source[rows, places]]
    bounds = None if is_exact(model.head) else Bounds.of(model, layout, noise)
    if bounds is None:
        scores = _codes(model, measure, ids[rows, places], (0,), codes)
    else:
        scores = bounds.scores(measure, ids, rows, places, codes)
    found = found.index_put((rows, places), scores)
    for group in elsewhere:
        found = _read_elsewhere(model, measure, states, ids, group, wanted, found, bounds)
    return found


def _own(visual: Tensor, elsewhere: Sequence[WriteGroup]) -> Tensor:
    """[B, T] bool: codes that are read out at themselves."""
    own = visual.clone()
    for group in elsewhere:
        own[group.rows[:, None], group.slots()] = False
    return own


def _read_elsewhere(
    model: CoreModel,
    measure: Measure,
    states: Sequence[Tensor],
    ids: Tensor,
    group: WriteGroup,
    wanted: Tensor,
    measures: Tensor,
    bounds: Bounds | None,
) -> Tensor:
    """measures [B, T, ...] with those of images whose codes are read out at other places."""
    for part in group.plan.read_outs.groups(group.plan.slots):
        rows = group.rows[:, None].expand(-1, len(part.slots)).flatten()
        places = (group.starts[:, None] + part.slots.to(ids.device)).flatten()
        chosen = wanted[rows, places]
        source = part.source.to(ids.device)
        source = torch.where(source == BEFORE, -1, source)  # the header's last id stands before slot 0
        sources = (group.starts[:, None, None] + source).flatten(0, 1)[chosen]  # [N, c]
        rows, places = rows[chosen], places[chosen]
        found = [states[head][rows, sources[:, n]] for n, head in enumerate(part.heads)]
        if bounds is None:
            scores = _codes(model, measure, ids[rows, places], part.heads, *found)
        else:  # of one head: a configuration with more is refused
            scores = bounds.scores(measure, ids, rows, places, *found)
        measures = measures.index_put((rows, places), scores)
    return measures


def _codes(model: CoreModel, measure: Measure, ids: Tensor, heads: Sequence[int], *states: Tensor) -> Tensor:
    """A measure of codes with ids [N], read out by some heads at states [N, D] each."""
    head = model.heads[0]
    symbols = head.to_symbols(ids - model.vocabulary.visual_start)

    def predicted(*given: Tensor) -> Distribution:
        return read_out([model.heads[number] for number in heads], given)

    return scored(predicted, measure, head.symbols * head.values, symbols, *states)


@dataclass(frozen=True, eq=False)
class Bounds:
    """Scores of codes by a head without a likelihood: noise, and which codes are denoised together."""

    model: CoreModel
    noise: BoundNoise
    groups: Tensor

    @staticmethod
    def of(model: CoreModel, layout: Layout, noise: BoundNoise | None) -> Bounds:
        """`noise`: by default new in training, else `fixed`."""
        noise = noise or (fresh(layout) if model.training else fixed(layout))
        return Bounds(model, noise, step_groups(layout))

    def scores(self, measure: Measure, ids: Tensor, rows: Tensor, places: Tensor, hidden: Tensor) -> Tensor:
        """A measure of the codes at `rows` and `places` [N] of ids [B, T], from states [N, D]."""
        head = self.model.heads[0]
        values = head.to_symbols(ids[rows, places] - self.model.vocabulary.visual_start)
        draws = self.noise.uniform(rows, places, head.draws)
        given = hidden, draws, self.groups[rows, places]

        def predicted(*part: Tensor) -> Distribution:
            return Bounded(head, *part)  # type: ignore[return-value]  # it is scored, not sampled from

        if head.whole_steps:  # a portion must not cut the codes that are denoised together
            return measure(predicted(*given), values)
        return scored(predicted, measure, head.symbols * head.values, values, *given)


def read_out(heads: Sequence[Any], states: Sequence[Tensor]) -> Distribution:
    """What some heads predict together of the same slots, each from its state [..., D]."""
    first, *others = [head.distribution(x) for head, x in zip(heads, states, strict=True)]
    return first.combined(others) if others else first


def scored(
    predicted: Callable[..., Distribution], measure: Measure, width: int, values: Tensor, *states: Tensor
) -> Tensor:
    """A measure [N, ...] of values [N, ...] under what is predicted from states [N, D], `width` logits each,
    in portions; with gradients what a portion computes is computed again in the backward pass."""

    def portion(given: Tensor, *part: Tensor) -> Tensor:
        return measure(predicted(*part), given)

    size = max(PORTION // width, 1)
    if len(values) <= size:
        return portion(values, *states)
    found = []
    for start in range(0, len(values), size):
        part = [x[start : start + size] for x in (values, *states)]
        again = torch.is_grad_enabled()
        found.append(checkpoint(portion, *part, use_reentrant=False) if again else portion(*part))
    return torch.cat(found)


def token_logits(model: CoreModel, states: Sequence[Tensor], layout: Layout) -> Tensor:
    """[B, T, V] float32: the distribution *of* each token, -inf where the target rule allows no such id."""
    table = states[0].gather(1, layout.source[..., None].expand_as(states[0]))
    text, codes = model.text_logits(table), model.heads[0].logits(table).squeeze(-2)
    for group in layout.writes:
        for part in () if group.plan.own else group.plan.read_outs.groups(group.plan.slots):
            places = group.starts[:, None] + part.slots.to(codes.device)
            source = part.source.to(codes.device)
            sources = group.starts[:, None, None] + torch.where(source == BEFORE, -1, source)
            rows = group.rows[:, None]
            found = [states[head][rows, sources[..., n]] for n, head in enumerate(part.heads)]
            heads = [model.heads[number] for number in part.heads]
            codes[rows, places] = read_out(heads, found).logits.squeeze(-2)  # type: ignore[attr-defined]
    is_code = ((layout.step >= 0) & layout.predicted)[..., None]
    border = model.vocabulary.visual_start
    text = text.masked_fill(is_code, float("-inf"))
    codes = codes.masked_fill(~is_code, float("-inf"))
    return torch.cat([text[..., :border], codes, text[..., border:]], dim=-1)


def sums(log_probs: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Sums of [B, T] by segment [B, S] and by segment and step [B, S, K]."""
    rows, _ = log_probs.shape
    segment, step = layout.index.segment, layout.step
    counts = _counts(layout)
    by_segment = log_probs.new_zeros(rows, counts[0]).scatter_add(1, segment, log_probs)
    written = log_probs.masked_fill(step < 0, 0.0)
    flat = segment * max(counts[1], 1) + step.clamp(min=0)
    by_step = log_probs.new_zeros(rows, counts[0] * max(counts[1], 1)).scatter_add(1, flat, written)
    return by_segment, by_step.view(rows, counts[0], -1)


def _counts(layout: Layout) -> tuple[int, int]:
    """The most segments of a row, and steps of an image, without looking at tensors on the device."""
    segments = max((cursor.segment for cursor in layout.cursors), default=1)
    return max(segments, 1), max((group.plan.count for group in layout.writes), default=0)
