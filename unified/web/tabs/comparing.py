"""The tab that compares: two answers or drawings for one prompt, and a vote between them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
import numpy as np

from unified.apps.answering import Content, ImageStep
from unified.apps.preferring import Pair
from unified.web.errand import Errand, Tell, events
from unified.web.examples import PROMPTS, QUESTIONS, Examples
from unified.web.showing import figure, figures, status, text
from unified.web.site import Site, reason
from unified.web.store import VOTES

ANSWERS, DRAWINGS = "two answers", "two drawings"
TEMPERATURES = {ANSWERS: 1.0, DRAWINGS: 1.0}
Records = tuple[str, list[dict[str, Any] | None]]  # the prompt; the record of each choice


def comparing_tab(site: Site, examples: Examples) -> None:
    records = gr.State(None, time_to_live=3600)
    prompt = gr.Textbox(label="Prompt", placeholder=PROMPTS[0], lines=2, max_length=2000)
    kind = gr.Radio([DRAWINGS, ANSWERS], value=DRAWINGS, label="Compare")
    with gr.Accordion("A picture that the prompt is about", open=False):
        picture = gr.Image(
            label="Picture",
            type="filepath",
            sources=["upload", "clipboard"],
            height=220,
            buttons=[],
            elem_classes="given",
        )
    rows = [
        [PROMPTS[0], DRAWINGS, None], [PROMPTS[2], DRAWINGS, None],
        [QUESTIONS[0], ANSWERS, examples.scenes[0]],
    ]  # fmt: skip
    gr.Examples(rows, [prompt, kind, picture], label="Examples", api_visibility="private")
    with gr.Row():
        begin = gr.Button("Compare", variant="primary", elem_id="compare")
        stop = gr.Button("Stop")
    line = gr.HTML(status("Nothing compared yet."), elem_id="compare-status")
    shown = gr.HTML(elem_id="compare-answers")
    with gr.Row():
        votes = [gr.Button(f"{name} is better", elem_id=f"vote-{name}", interactive=False) for name in "AB"]
    gr.Markdown(f"Votes are records of ids for preference tuning; the server keeps them in `{VOTES}`.")

    async def compare(words: str, kind: str, path: str | None) -> AsyncIterator[Any]:
        locked = [gr.Button(interactive=False)] * 2
        yield status("waiting for the model", busy=True), "", None, *locked
        try:
            if not words.strip():
                raise ValueError("write a prompt")
            image = site.picture(path) if path else None
            async for event in events(site.service, Errand(_work(site, words, image, kind))):
                if isinstance(event, str):
                    yield status(event, busy=True), gr.skip(), None, *locked
                else:
                    contents, found = event
                    equal = found[0] is None
                    said = "the answers are equal: try again" if equal else "which one is better?"
                    free = [gr.Button(interactive=not equal)] * 2
                    yield status(said), _side_by_side(contents), (words, found), *free
        except Exception as error:
            yield status(reason(error), error=True), gr.skip(), None, *locked

    async def vote(records: Records | None, better: int) -> Any:
        locked = [gr.Button(interactive=False)] * 2
        record = None if records is None else records[1][better]
        if records is None or record is None:
            return status("there is nothing to vote on: compare first", error=True), None, *locked
        await asyncio.to_thread(site.store.vote, records[0], record)
        return status(f"your vote for {'AB'[better]} is kept"), None, *locked

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    outputs = [line, shown, records, *votes]
    running = begin.click(compare, [prompt, kind, picture], outputs, concurrency_limit=8, **quiet)
    stop.click(lambda: status("stopped"), None, line, cancels=[running], **quiet)
    for number, button in enumerate(votes):
        button.click(vote, [records, gr.State(number)], [line, records, *votes], **quiet)


def _work(site: Site, words: str, image: np.ndarray | None, kind: str) -> Any:
    """The errand: progress as text, then the contents and records of both answers."""

    def work(tell: Tell) -> None:
        assistant = site.assistant()
        pair = Pair(
            assistant, assistant.request(words, image), draw=kind == DRAWINGS,
            max_tokens=min(128, site.max_tokens), seed=secrets.randbelow(2**31),
        )  # fmt: skip
        for event in pair.events():
            if isinstance(event, ImageStep):
                tell(f"drawing {event.choice.step + 1} of {len(event.choice.plan.steps)}")
            else:
                tell("answering")
        tell((pair.contents(), [pair.record(better) for better in range(2)]))

    return work


def _side_by_side(contents: list[Content]) -> str:
    parts = []
    for name, content in zip("AB", contents, strict=True):
        items = [
            figure(item["image"], f"{name}, a drawing") if item["type"] == "image" else text(item["text"])
            for item in content
            if item["type"] in ("image", "text")
        ]
        parts.append(f'<section class="answer"><h3>{name}</h3>{"".join(items) or "(nothing)"}</section>')
    return figures(parts)
