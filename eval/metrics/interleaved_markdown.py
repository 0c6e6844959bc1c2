"""Answers of text and selected images as RAG-IGBench reads them: `![caption](IMG#3)` inside markdown inside
JSON.

The repair of model output and its quirks are those of the released scorer (arXiv 2512.05119,
USTC-StarTeam/RAG-IGBench): a correctly escaped quotation mark makes an answer invalid, keys after "answer"
are swallowed into it, and letters of "json" at either end of prose are lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

IMAGE = re.compile(r"!\[.*?\]\(IMG#(\d+)\)")
CITATION = re.compile(r"<sup>\[.*?\]\(.*?\)</sup>")
HEAD = '{"answer": "'
CONTEXT = 20  # characters on either side of an image


@dataclass(frozen=True)
class Interleaved:
    """`text` without images and citations; `images`: ids in order, with repeats; `contexts`: the text around
    each image by its id."""

    text: str
    images: Sequence[str]
    contexts: Mapping[str, str]


def answer_of(output: str) -> str | None:
    """The markdown in what a model wrote; None for an invalid format."""
    text = _repaired(output.strip().strip("`").strip("json").strip())
    _, found, rest = text.partition('"answer": "')
    if not found or '"' not in rest:
        return None
    infix, _, tail = rest.rpartition('"')
    infix = infix.replace('"', "'").replace("\\n", "<br>").replace("\n", "<br>")
    try:
        answer = json.loads(f'{HEAD}{infix}"{tail}')["answer"]
    except (ValueError, RecursionError):
        return None
    return str(answer)


def _repaired(text: str) -> str:
    """From the first brace on, with the closing quotation mark and brace that may be missing."""
    if not text.startswith("{"):
        text = text[text.find("{") :]  # without any brace the last character is left, which is no answer
    if not text.strip().endswith("}"):
        text += "}"
    return text if text[:-1].strip().endswith('"') else text[:-1] + '"}'


def interleaved(markdown: str, context: int = CONTEXT) -> Interleaved:
    """Images are counted inside citations too, contexts are not. A context is `context` characters before and
    after the tag, without complete tags of other images; of an id that is repeated the last counts."""
    plain = CITATION.sub("", markdown)
    contexts: dict[str, str] = {}
    for tag in IMAGE.finditer(plain):
        around = plain[max(tag.start() - context, 0) : tag.start()] + plain[tag.end() : tag.end() + context]
        contexts[tag[1]] = IMAGE.sub("", around)
    return Interleaved(IMAGE.sub("", plain).strip(), IMAGE.findall(markdown), contexts)
