"""How an assistant generates by default, verb by verb."""

from __future__ import annotations

from dataclasses import replace

from unified.apps.answering import GREEDY, NUCLEUS, GenerationSettings
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler

SIDE = 64  # pixels of the longer side of every picture, in and out
CHATTING = GenerationSettings(
    image_sampler=GREEDY, minimum_risk_width=0.4, guidance=Constant(1.5), max_tokens=512, max_images=8
)
DRAWING = replace(CHATTING, require_image=True, max_tokens=128)
EDITING = replace(DRAWING, max_tokens=256)


def another(settings: GenerationSettings, attempt: int) -> GenerationSettings:
    """The settings of attempt 0, 1, ... of best-of-n: from the second one on images are sampled, since greedy
    decoding would give the same image each time."""
    return settings if attempt == 0 else replace(settings, image_sampler=NUCLEUS)


def sampler_of(temperature: float) -> Sampler:
    """How codes are chosen at a temperature; 0 is greedy."""
    return replace(NUCLEUS, temperature=temperature) if temperature else GREEDY
