"""The tab that draws: each map of the picture as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator

import gradio as gr
import numpy as np

from unified.apps.answering import Content, GenerationSettings
from unified.apps.settings import DRAWING
from unified.orders.shapes import Shapes
from unified.server.images import each_settings
from unified.server.job import Drew, Extras, Prompt, Wrote
from unified.web.examples import PROMPTS
from unified.web.showing import figure, figures, status
from unified.web.site import Site, client_of, reason, seed_of


def drawing_tab(site: Site) -> None:
    prompt = gr.Textbox(label="What to draw", placeholder=PROMPTS[0], lines=2, max_length=2000)
    with gr.Row():
        begin = gr.Button("Draw", variant="primary", elem_id="draw")
        stop = gr.Button("Stop")
    gr.Examples([[words] for words in PROMPTS], [prompt], label="Examples", api_visibility="private")
    with gr.Accordion("Settings", open=False):
        guidance = gr.Slider(0, 5, 1.5, step=0.1, label="Classifier-free guidance")
        temperature = gr.Slider(0, 2, 0, step=0.1, label="Temperature (0: greedy decoding)")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    line = gr.HTML(status("Nothing drawn yet."), elem_id="draw-status")
    maps, picture = gr.HTML(label="Maps", elem_id="draw-maps"), gr.HTML(elem_id="draw-picture")

    async def draw(
        words: str, guidance: float, temperature: float, seed: float, request: gr.Request
    ) -> AsyncIterator[tuple[str, str, str]]:
        seen: list[list[str]] = []  # the maps of each drawing on the way
        yield status("waiting for the model", busy=True), "", ""
        try:
            if not words.strip():
                raise ValueError("write what is to be drawn")
            settings = each_settings(site.service, DRAWING, 1, guidance, temperature)
            side = site.service.assistant.side
            content: Content = [{"type": "text", "text": words}]
            job = Drawing(site, content, settings, site.service.shapes((side, side)), seed_of(seed))
            async for event in job.events(client_of(request)):
                if isinstance(event, Wrote):
                    seen += [[]] if event.step == 1 else []
                    seen[-1] += [] if event.image is None else [figure(event.image, job.caption(event))]
                    yield status(f"map {event.step} of {event.steps}", busy=True), _rows(seen), ""
                else:
                    done = figure(event, words, save_as="drawing.png")
                    yield status("finished"), _rows(seen), figures([done])
        except Exception as error:
            yield status(reason(error), error=True), _rows(seen), ""

    inputs = [prompt, guidance, temperature, seed]
    running = gr.on(
        [begin.click, prompt.submit],
        draw,
        inputs,
        [line, maps, picture],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=8,
    )
    stop.click(lambda: status("stopped"), None, line, cancels=[running], api_visibility="private")


def _rows(seen: list[list[str]]) -> str:
    """A line of maps for each drawing: the model draws one object after the other."""
    return "".join(map(figures, seen))


class Drawing:
    """One image that the server's scheduler draws together with those of others. `content`: the request;
    `hook`: of in-painting."""

    def __init__(
        self,
        site: Site,
        content: Content,
        settings: list[GenerationSettings],
        shapes: Shapes,
        seed: int,
        extras: Extras | None = None,
    ) -> None:
        self.site, self.settings, self.shapes, self.seed = site, settings, shapes, seed
        self.prompt = Prompt([{"role": "user", "content": content}])
        self.extras = extras or Extras(maps=True)

    def caption(self, event: Wrote) -> str:
        height, width = self.shapes[event.step - 1]
        return f"map {event.step}: {height} x {width}"

    async def events(self, client: str) -> AsyncIterator[Wrote | np.ndarray]:
        """Each step, and the finished image uint8 [H, W, 3]. `ApiError` where there is none."""
        answers = self.site.service.ask(
            self.prompt, self.settings, self.shapes, self.seed, client, self.extras
        )
        image = None
        async for _, event in answers.events():
            if isinstance(event, Wrote):
                yield event
            elif isinstance(event, Drew):
                image = event.image
        if image is None:
            raise ValueError("the model drew no image")
        yield image
