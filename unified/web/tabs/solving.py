"""The tab that solves mazes: text and sketches in line as they come, then the actions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from unified.apps.answering import Content
from unified.apps.conversation import Scale, note
from unified.apps.solving import NO_MAZE, Solution, is_maze
from unified.web.errand import Errand, Tell, events
from unified.web.examples import Examples
from unified.web.showing import figure, figures, status, text
from unified.web.site import Site, reason, seed_of


def solving_tab(site: Site, examples: Examples) -> None:
    gr.Markdown(
        "A maze of black walls on white, with a green arrow to start from and a red disc to reach. After "
        "every part of the way the model sketches where it has come to."
    )
    maze = gr.Image(
        label="Maze",
        type="filepath",
        sources=["upload", "clipboard"],
        height=260,
        buttons=[],
        elem_id="maze",
        elem_classes="given",
    )
    gr.Examples([[examples.maze]], [maze], label="Example", api_visibility="private")
    sketches = gr.Checkbox(True, label="With sketches")
    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    with gr.Row():
        begin = gr.Button("Solve", variant="primary", elem_id="solve")
        stop = gr.Button("Stop")
    line = gr.HTML(status("Nothing solved yet."), elem_id="solve-status")
    answer = gr.HTML(elem_id="solve-answer")

    async def solve(path: str | None, sketches: bool, seed: float) -> AsyncIterator[tuple[str, str]]:
        content: Content = []
        yield status("waiting for the model", busy=True), ""
        try:
            picture = site.picture(path)
            if not is_maze(picture):
                raise ValueError(NO_MAZE)
            assistant = site.assistant(seed_of(seed))

            def work(tell: Tell) -> None:
                tell(assistant.solve(picture, sketches=sketches, hear=tell))

            async for event in events(site.service, Errand(work)):
                if isinstance(event, Solution):
                    yield status(_outcome(event)), _shown(event.content)
                elif isinstance(event, Scale):
                    yield status(f"sketching {event.step} of {event.steps}", busy=True), gr.skip()
                else:
                    note(content, event)
                    yield status("thinking", busy=True), _shown(content)
        except Exception as error:
            yield status(reason(error), error=True), _shown(content)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    inputs = [maze, sketches, seed]
    running = begin.click(solve, inputs, [line, answer], concurrency_limit=8, **quiet)
    stop.click(lambda: status("stopped"), None, line, cancels=[running], **quiet)


def _outcome(solution: Solution) -> str:
    found = ", ".join(solution.actions) or "no way was found"
    return f"{found} (the answer was cut: {solution.cut})" if solution.cut else found


def _shown(content: Content) -> str:
    parts, number = [], 0
    for item in content:
        if item["type"] == "image":
            number += 1
            parts.append(figures([figure(item["image"], f"sketch {number}")]))
        else:
            parts.append(text(item["text"]))
    return "".join(parts)
