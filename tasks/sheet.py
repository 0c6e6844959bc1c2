"""Draws a contact sheet: one card per sample, its panels from left to right with arrows between pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from unified.tasks.panels import Panel

WIDTH, MARGIN, GAP, PADDING = 1100, 22, 26, 12
LINE, TEXT_SIZE, TITLE_SIZE = 18, 14, 20
GROUND, CARD, EDGE = (246, 247, 249), (255, 255, 255), (222, 226, 232)
COLOURS = {"user": (88, 96, 108), "assistant": (0, 98, 178), "system": (140, 100, 40)}
WORDS_WIDTH = 318  # of a panel without a picture
SIDES = ((1, 200), (4, 150), (6, 142), (8, 104))  # up to so many panels: side of a picture


@dataclass
class Card:
    """Panels in rows, measured: what one sample takes on the sheet."""

    rows: list[list[Panel]]
    heights: list[int]
    width: int

    @property
    def height(self) -> int:
        return sum(self.heights) + GAP * (len(self.heights) - 1) + 2 * PADDING


class Sheet:
    """A sheet of cards under a title."""

    def __init__(self, samples: Sequence[list[Panel]]) -> None:
        most = max(len(shown) for shown in samples)
        self.side = next((side for count, side in SIDES if most <= count), SIDES[-1][1])
        self.font = ImageFont.load_default(TEXT_SIZE)
        self.cards = [self._card(shown) for shown in samples]

    def draw(self, title: str, caption: str = "") -> Image.Image:
        """The whole picture, RGB, at most 1100 pixels wide; `caption`: a line under the title."""
        rows = self._flow()
        top = MARGIN + TITLE_SIZE + 20 + (LINE if caption else 0)
        width = max(sum(card.width + MARGIN for card in row) for row in rows) + MARGIN
        height = top + sum(max(card.height for card in row) + MARGIN for row in rows)
        image = Image.new("RGB", (max(width, 420), height), GROUND)
        draw = ImageDraw.Draw(image)
        self._title(draw, title, image.width)
        draw.text((MARGIN, MARGIN + TITLE_SIZE + 4), caption, font=self.font, fill=COLOURS["system"])
        y = top
        for row in rows:
            x, tallest = MARGIN, max(card.height for card in row)
            for card in row:
                box = (x, y, x + card.width, y + tallest)
                draw.rounded_rectangle(box, radius=8, fill=CARD, outline=EDGE)
                self._draw_card(image, draw, card, x + PADDING, y + PADDING)
                x += card.width + MARGIN
            y += tallest + MARGIN
        return image

    def _card(self, shown: list[Panel]) -> Card:
        per_row = max((WIDTH - 2 * MARGIN - 2 * PADDING + GAP) // (self.side + GAP), 1)
        count = -(-len(shown) // -(-len(shown) // per_row))  # rows as even as can be
        rows = [shown[start : start + count] for start in range(0, len(shown), count)]
        heights = [max(self._panel_height(panel) for panel in row) for row in rows]
        width = max(sum(self._panel_width(panel) + GAP for panel in row) - GAP for row in rows)
        return Card(rows=rows, heights=heights, width=width + 2 * PADDING)

    def _flow(self, limit: int | None = None) -> list[list[Card]]:
        """Cards side by side as far as the width allows, the same number in every row if that fits."""
        rows: list[list[Card]] = [[]]
        for card in self.cards:
            used = sum(other.width + MARGIN for other in rows[-1])
            if rows[-1] and (len(rows[-1]) == limit or used + card.width + 2 * MARGIN > WIDTH):
                rows.append([])
            rows[-1].append(card)
        return rows if limit else self._flow(-(-len(self.cards) // len(rows)))

    def _title(self, draw: ImageDraw.ImageDraw, title: str, width: int) -> None:
        draw.text((MARGIN, MARGIN - 4), title, font=ImageFont.load_default(TITLE_SIZE), fill=(30, 34, 40))
        legend = (("given", "user"), ("answer", "assistant"))
        x = width - MARGIN
        for words, role in reversed(legend):
            x -= round(self.font.getlength(words))
            draw.text((x, MARGIN), words, font=self.font, fill=COLOURS[role])
            draw.rounded_rectangle((x - 18, MARGIN + 3, x - 6, MARGIN + 15), 3, fill=COLOURS[role])
            x -= 36

    def _draw_card(self, image: Image.Image, draw: ImageDraw.ImageDraw, card: Card, x: int, y: int) -> None:
        for row, height in zip(card.rows, card.heights, strict=True):
            left = x
            for number, panel in enumerate(row):
                self._draw_panel(image, draw, panel, left, y)
                if number + 1 < len(row) or row is not card.rows[-1]:
                    self._arrow(
                        draw, left + self._panel_width(panel) + GAP // 2, y + self._picture(panel)[1] // 2
                    )
                left += self._panel_width(panel) + GAP
            y += height + GAP

    def _draw_panel(
        self, image: Image.Image, draw: ImageDraw.ImageDraw, panel: Panel, x: int, y: int
    ) -> None:
        width, height = self._picture(panel)
        if panel.picture is not None:
            image.paste(_scaled(panel.picture, width, height), (x, y))
            box = (x - 2, y - 2, x + width + 1, y + height + 1)
            draw.rectangle(box, outline=COLOURS[panel.role], width=2)
            y += height + 8
        for role, line in self._lines(panel):
            draw.text((x, y), line, font=self.font, fill=COLOURS[role])
            y += LINE

    def _arrow(self, draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
        draw.line((x - 8, y, x + 6, y), fill=COLOURS["user"], width=2)
        draw.polygon(((x + 9, y), (x + 3, y - 4), (x + 3, y + 4)), fill=COLOURS["user"])

    def _picture(self, panel: Panel) -> tuple[int, int]:
        """(width, height) on the sheet."""
        if panel.picture is None:
            return WORDS_WIDTH, 0
        height, width = panel.picture.shape[:2]
        return self.side, max(round(self.side * height / width), 1)

    def _panel_width(self, panel: Panel) -> int:
        return self._picture(panel)[0]

    def _panel_height(self, panel: Panel) -> int:
        lines = len(self._lines(panel))
        height = self._picture(panel)[1]
        return height + (8 if height and lines else 0) + LINE * lines

    def _lines(self, panel: Panel) -> list[tuple[str, str]]:
        """The notes as lines of (role, words) that fit under the panel."""
        return [
            (role, line)
            for role, text in panel.words()
            for line in self._wrap(text, self._panel_width(panel))
        ]

    def _wrap(self, text: str, width: int) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.font.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


def _scaled(picture: np.ndarray, width: int, height: int) -> Image.Image:
    """Enlarged pixels stay sharp; everything else is smoothed."""
    image = Image.fromarray(picture)
    whole = width % image.width == 0 and width >= image.width
    return image.resize((width, height), Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)
