"""Limits of a turn in which the model decides what it draws, and why such a turn was cut.

A model that opens images itself may draw without stop, or never end its turn. A turn over a limit is cut
where it stands: what is there is kept, well formed, and one sentence says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unified.finite import check_count, check_number
from unified.orders.shapes import Shapes, area


@dataclass(frozen=True, kw_only=True)
class SketchLimits:
    """Of one turn, per row: at most `images`, at most `ids` of text and codes, and at most `seconds` (None:
    any time). `coarse_maps`: an image that the model opens right after the text `coarse_after` is written up
    to so many of its maps alone, at a fraction of the cost; 0: none is."""

    images: int = 64
    ids: int = 2**16
    seconds: float | None = None
    coarse_after: str = ""
    coarse_maps: int = 0

    def __post_init__(self) -> None:
        check_count("images", self.images)
        check_count("ids", self.ids, 1)
        check_count("coarse_maps", self.coarse_maps)
        if self.seconds is not None:
            check_number("seconds", self.seconds, 0)
        if bool(self.coarse_after) != bool(self.coarse_maps):
            raise ValueError("a coarse image needs coarse_after, the text before it, and coarse_maps")

    def shapes(self, full: Shapes, text: str) -> Shapes:
        """The maps of an image that is opened after this text."""
        if self.coarse_after and text.endswith(self.coarse_after):
            return full[: self.coarse_maps]
        return full


class Watch:
    """How far each row of a turn has gone, compared with the limits. `clock` gives seconds."""

    def __init__(self, limits: SketchLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock, self.began = limits, clock, clock()

    def late(self) -> str:
        """Why the turn must end now, "" if it need not."""
        seconds = self.limits.seconds
        if seconds is None or self.clock() - self.began <= seconds:
            return ""
        return f"it took longer than {seconds:g} seconds"

    def long(self, ids: int) -> str:
        return f"it never ended: {ids} ids, the limit" if ids >= self.limits.ids else ""

    def refused(self, images: int, ids: int, shapes: Shapes) -> str:
        """Why a row that has so many images and ids may not have another image of these maps."""
        if images >= self.limits.images:
            return f"it draws without stop: another image after {images}, the limit"
        if ids + area(shapes) > self.limits.ids:
            return f"another image would make it longer than {self.limits.ids} ids, the limit"
        return ""


def by_shapes(wanted: Sequence[Shapes | None]) -> list[tuple[Shapes, list[bool]]]:
    """Rows that draw images of the same maps together: the maps, and a flag for each row."""
    kinds = dict.fromkeys(shapes for shapes in wanted if shapes is not None)
    return [(kind, [shapes == kind for shapes in wanted]) for kind in kinds]
