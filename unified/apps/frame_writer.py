"""How a frame is drawn after an action, shown as pixels, and scored: shared by rollouts and dreams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.decoding.drawing import Choice, Drawing, Generator, Hook
from unified.decoding.guidance import check_contrast
from unified.decoding.minimum_risk import minimum_risk_decoding
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.extras.references import ActionContrast
from unified.orders import Plan
from unified.orders.shapes import Shapes
from unified.stream.processor import Processor
from unified.tokenizers.images import to_uint8

MINIMUM_RISK_WIDTH = 1.5  # of minimum-risk decoding: errors add up more slowly over sixteen frames
CONTRAST = 0.2  # weight; a larger one follows the actions better and has a larger error after many frames


@dataclass(frozen=True)
class Frames:
    """Frames of B rows: `images` uint8 [B, H, W, 3], the `codes` written [B, T] and `read` [B, h, w] of the
    map that is read last, int32 (latents: int64); `log_probs` [B] of all codes written, under the predicted
    distribution before temperature and filters, and `entropies` [B] of that distribution, a mean over codes;
    both in nats, NaN for heads without a softmax."""

    images: np.ndarray
    codes: np.ndarray
    read: np.ndarray
    log_probs: np.ndarray
    entropies: np.ndarray


class FrameWriter:
    """Draws frames in the rows of a session. `sampler`: greedy decoding (temperature 0) has minimum-risk
    decoding and carries embeddings (`Session.image(carry=)`). `mean`: frames are shown as the decoding of the
    mean codebook vector; None: where decoding is greedy and the model has one codebook and one map that is
    read. `contrast`: weight of contrastive guidance by the opposite actions, 0 is off, None is `CONTRAST`
    where decoding is greedy, otherwise 0. ValueError for options that exclude each other, and for a model
    that cannot draw frames."""

    def __init__(
        self,
        model: Generator,
        processor: Processor,
        *,
        sampler: Sampler | None = None,
        mean: bool | None = None,
        contrast: float | None = None,
    ) -> None:
        self.model, self.processor, self.sampler = model, processor, sampler or Sampler(temperature=0)
        carries = getattr(model, "carries", True)  # published models are rolled out as they are
        if contrast is None:
            contrast = CONTRAST if carries and not self.sampler.temperature else 0.0
        check_contrast(contrast)
        if contrast and self.sampler.temperature:
            raise ValueError("a contrast needs greedy decoding: a sampler of temperature 0, or none")
        if processor.visual is None:
            raise ValueError("this model has no visual tokenizer: it cannot imagine frames")
        self.visual: Any = processor.visual
        has_mean = model.head.symbols == 1 and len(self.visual.read_shapes(processor.schedule((4, 4)))) == 1
        self.mean = has_mean and carries and not self.sampler.temperature if mean is None else mean
        self.contrast, self.carry = contrast, carries and self.sampler.temperature == 0
        width = MINIMUM_RISK_WIDTH if carries else 0.0
        self.minimum_risk = minimum_risk_decoding(model, processor, self.sampler, width)
        if self.mean and not has_mean:
            raise ValueError(
                "the mean over codes needs a softmax over one codebook and a single map that is read"
            )

    def draw(self, session: Session, shapes: Shapes, rows: Sequence[bool], hook: Hook | None = None) -> Drawn:
        """Draw one frame in the marked rows. `hook`: may overwrite codes."""
        images = session.image(
            shapes,
            order=self.processor.order,
            sampler=self.sampler,
            minimum_risk=self.minimum_risk,
            contrast=self._contrast(session),
            carry=self.carry,
            hook=hook,
            rows=rows,
        )
        choices = list(images)
        return Drawn(session.drawing, choices, torch.tensor(list(rows)).nonzero()[:, 0])

    @torch.no_grad()
    def show(self, drawn: Drawn, *, scored: bool = True) -> Frames:
        """The frames that were drawn, in the order of the rows that drew. Unless `scored`, log-probabilities
        and entropies are NaN: they cost a softmax over the codebook."""
        plan, chosen = drawn.drawing.plan, drawn.rows.to(drawn.drawing.codes.device)
        codes, read = drawn.drawing.codes[chosen], drawn.drawing.read()[chosen]
        log_probs, entropies = self._scores(drawn) if scored else _unknown(len(drawn.rows))
        shape = plan.shapes[-1]
        return Frames(
            images=self._pixels(drawn, read),
            codes=as_array(codes, self.visual.codes),
            read=as_array(read[:, -shape[0] * shape[1] :].unflatten(1, shape), self.visual.codes),
            log_probs=log_probs,
            entropies=entropies,
        )

    def _pixels(self, drawn: Drawn, read: Tensor) -> np.ndarray:
        plan = drawn.drawing.plan
        if self.mean:
            codebook = self.visual.codebook()
            logits = (choice.logits[drawn.rows, :, 0] for choice in drawn.choices)
            vectors = [some.softmax(dim=-1).to(codebook) @ codebook for some in logits]
            return to_uint8(self.visual.decode_vectors(_map(vectors, plan)))
        sizes = [height * width for height, width in plan.read_shapes]
        maps = read.to(next(self.visual.parameters()).device).split(sizes, dim=1)
        return to_uint8(self.visual.decode_maps(list(maps), plan.read_shapes))

    def _scores(self, drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities [B] of all codes, and entropies [B] as a mean over codes."""
        device = drawn.drawing.codes.device
        total, entropy = torch.zeros(2, len(drawn.rows), device=device)
        for choice in drawn.choices:
            logits = getattr(choice.predicted, "logits", None)
            if logits is None:
                return _unknown(len(drawn.rows))
            symbols = self.model.head.to_symbols(choice.codes)
            for number, row in enumerate(drawn.rows.tolist()):  # one at a time stays in a processor's cache
                likely = logits[row].float().log_softmax(dim=-1)  # [n, S, V]
                total[number] += likely.gather(-1, symbols[row][..., None]).sum()
                entropy[number] -= (likely.exp() * likely).nansum()
        total, entropy = total.double().cpu(), entropy.double().cpu()
        return total.numpy(), entropy.numpy() / drawn.drawing.plan.length

    def _contrast(self, session: Session) -> ActionContrast | None:
        """With the opposites of the latest actions; None if it is off."""
        if not self.contrast:
            return None
        slots = session.vocabulary.action_slots
        pressed = [torch.tensor(row.actions, dtype=torch.long).view(-1, slots) for row in session.rows]
        return ActionContrast(
            [self.processor.opposite(some).flatten().tolist() for some in pressed], self.contrast
        )


@dataclass(frozen=True)
class Drawn:
    """A drawing, the choices of its steps, and the numbers [B] of the rows that drew."""

    drawing: Drawing
    choices: list[Choice]
    rows: Tensor


def as_array(codes: Tensor, count: int) -> np.ndarray:
    """Codes below `count` as int32, or int64 where they need it."""
    found: np.ndarray = codes.cpu().numpy().astype(np.int32 if count <= 2**31 else np.int64)
    return found


def _unknown(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(count, np.nan), np.full(count, np.nan)


def _map(vectors: Sequence[Tensor], plan: Plan) -> Tensor:
    """Vectors in the order of the plan's decoding steps, each [B, n, C] -> the map that is read [B, C, h,
    w]."""
    slots = torch.cat([step.decide for step in plan.steps]).argsort().to(vectors[0].device)
    read = torch.cat(list(vectors), dim=1)[:, slots[plan.read.to(slots.device)]]
    return read.transpose(1, 2).unflatten(2, plan.read_shapes[0])
