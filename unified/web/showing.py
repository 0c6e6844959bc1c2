"""Pictures, lines of progress and tables as HTML. Pictures are data URLs: no file is written for them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from unified.server.uploads import data_url


def figure(image: np.ndarray, caption: str, *, save_as: str = "") -> str:
    """A picture uint8 [H, W, 3] with a caption, which is also its text for screen readers. `save_as`: the
    name of a file that a link under it saves."""
    url, words = data_url(image), html.escape(caption)
    link = f' <a href="{url}" download="{html.escape(save_as)}">save</a>' if save_as else ""
    shown = f'<img src="{url}" alt="{words}"><figcaption>{words}{link}</figcaption>'
    return f'<figure class="pixels">{shown}</figure>'


def figures(parts: Sequence[str]) -> str:
    """Figures side by side, in lines as wide as the screen."""
    return f'<div class="figures">{"".join(parts)}</div>'


def status(words: str, *, busy: bool = False, error: bool = False) -> str:
    """A line that says what is going on; screen readers read it out."""
    kind = "status error" if error else "status busy" if busy else "status"
    return f'<p class="{kind}" role="status">{html.escape(words)}</p>'


def text(words: str) -> str:
    return f'<p class="words">{html.escape(words)}</p>' if words.strip() else ""


def code_map(codes: np.ndarray, count: int) -> str:
    """A map of codes int [h, w] from 0 to `count` - 1 as a table whose cells have a colour for each code."""
    rows = []
    for line in codes.tolist():
        cells = "".join(
            f'<td style="background:hsl({code * 137.508 % 360:.0f} 70% 78%)">{code}</td>' for code in line
        )
        rows.append(f"<tr>{cells}</tr>")
    height, width = codes.shape
    caption = f"{height} x {width} codes of {count}"
    return f'<table class="codes"><caption>{caption}</caption><tbody>{"".join(rows)}</tbody></table>'


def probabilities(tokens: Sequence[tuple[str, float]]) -> str:
    """Tokens and their log-probabilities (nats) as a table with bars."""
    rows = []
    for token, score in tokens:
        share = 0.0 if math.isnan(score) else math.exp(score)
        bar = f'<meter min="0" max="1" value="{share:.4f}">{share:.0%}</meter>'
        rows.append(
            f"<tr><td><code>{html.escape(repr(token))}</code></td><td>{share:.1%}</td><td>{bar}</td></tr>"
        )
    head = '<tr><th scope="col">token</th><th scope="col">probability</th><th></th></tr>'
    return f'<table class="tokens"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def heat(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3] whose places are as bright as their weights [h, w], the largest as it is."""
    height, width = image.shape[:2]
    rows = np.arange(height) * weights.shape[0] // height
    columns = np.arange(width) * weights.shape[1] // width
    share = (weights / max(float(weights.max()), 1e-9))[rows][:, columns, None]
    dark = image.astype(np.float32) * (0.15 + 0.85 * share)
    dark[..., 0] += 90 * share[..., 0]
    return np.clip(dark, 0, 255).astype(np.uint8)
