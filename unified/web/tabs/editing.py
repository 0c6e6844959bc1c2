"""The tab that edits: an instruction and, where a mask is painted, in-painting with all other codes kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
import torch
import torch.nn.functional as F

from unified.apps.answering import Content
from unified.apps.best_of_n import PLACES
from unified.apps.settings import EDITING
from unified.server.images import each_settings, kept_outside
from unified.server.job import Extras, Wrote
from unified.web.examples import EDITS, Examples, shrunk
from unified.web.showing import figure, figures, status
from unified.web.site import Site, client_of, reason, seed_of
from unified.web.tabs.drawing import Drawing

BRUSH = "#ff00c8"
COLOUR = np.array([0xFF, 0x00, 0xC8], np.uint8)


def editing_tab(site: Site, examples: Examples) -> None:
    gr.Markdown(
        "Upload, drop or paste a picture. Paint over what is to change, or name parts of it: elsewhere the "
        "picture keeps its codes. Without a mask the model changes what the instruction says."
    )
    editor = gr.ImageEditor(
        label="Picture and mask",
        type="numpy",
        image_mode="RGBA",
        format="png",
        sources=["upload", "clipboard"],
        transforms=[],
        layers=False,
        brush=gr.Brush(default_size="auto", colors=[BRUSH], color_mode="fixed"),
        buttons=[],
        canvas_size=(384, 384),
        height=460,
        elem_id="editor",
    )
    with gr.Row():
        takes = [gr.Button(f"Example picture {n}", size="sm") for n in range(1, len(examples.large) + 1)]
    parts = gr.CheckboxGroup(list(PLACES), label="Parts to paint anew (instead of the brush)")
    instruction = gr.Textbox(label="What to change", placeholder=EDITS[0], max_length=2000)
    with gr.Row():
        begin = gr.Button("Edit", variant="primary", elem_id="edit")
        stop = gr.Button("Stop")
    gr.Examples([[words] for words in EDITS], [instruction], label="Examples", api_visibility="private")
    with gr.Accordion("Settings", open=False):
        guidance = gr.Slider(0, 5, 1.5, step=0.1, label="Classifier-free guidance")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    line = gr.HTML(status("Nothing edited yet."), elem_id="edit-status")
    shown = gr.HTML(elem_id="edit-picture")
    for button, large in zip(takes, examples.large, strict=True):
        button.click(partial(np.copy, large), None, editor, api_visibility="private")

    async def edit(
        painted: dict[str, Any] | None,
        parts: list[str],
        words: str,
        guidance: float,
        seed: float,
        request: gr.Request,
    ) -> AsyncIterator[tuple[str, str]]:
        yield status("waiting for the model", busy=True), ""
        try:
            if not words.strip():
                raise ValueError("write what is to change")
            picture, keep = await asyncio.to_thread(picture_and_mask, site, painted, parts)
            extras = Extras(maps=True)
            if keep is not None:
                extras = Extras(maps=True, hook=kept_outside(site.service, picture, keep))
            content: Content = [{"type": "image", "image": picture}, {"type": "text", "text": words}]
            settings = each_settings(site.service, EDITING, 1, guidance)
            shapes = site.service.shapes(picture.shape[:2])
            before, seen = figure(picture, "before"), ""
            job = Drawing(site, content, settings, shapes, seed_of(seed), extras)
            async for event in job.events(client_of(request)):
                if isinstance(event, Wrote):
                    seen = seen if event.image is None else figure(event.image, job.caption(event))
                    said = f"map {event.step} of {event.steps}"
                    yield status(said, busy=True), figures([before, seen])
                else:
                    after = figure(event, f"after: {words}", save_as="edited.png")
                    also = [] if keep is None else [figure(masked(picture, keep), "kept outside the mask")]
                    yield status("finished"), figures([before, *also, after])
        except Exception as error:
            yield status(reason(error), error=True), ""

    running = gr.on(
        [begin.click, instruction.submit],
        edit,
        [editor, parts, instruction, guidance, seed],
        [line, shown],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=8,
    )
    stop.click(lambda: status("stopped"), None, line, cancels=[running], api_visibility="private")


def picture_and_mask(
    site: Site, painted: dict[str, Any] | None, parts: Sequence[str]
) -> tuple[np.ndarray, torch.Tensor | None]:
    """What an editor holds: the picture as the model reads it, uint8 [H, W, 3], and a mask float [h, w] of
    its finest map, 1 where no stroke touches the code; None where nothing was painted and no parts are named.
    ValueError without a picture."""
    background = None if painted is None else painted.get("background")
    if background is None or not background[..., 3].any():
        raise ValueError("there is no picture yet: upload, drop or paste one, or take an example")
    on_white = background.astype(np.float32)
    share = on_white[..., 3:] / 255
    flat = (on_white[..., :3] * share + 255 * (1 - share)).round().astype(np.uint8)
    picture: np.ndarray = site.service.assistant.picture(shrunk(flat))
    anew = np.zeros(background.shape[:2], bool)
    for layer in painted.get("layers", []) if painted else []:
        anew |= layer[..., 3] > 127
    for part in parts:
        row, column = divmod(PLACES.index(part), 3)
        height, width = anew.shape
        anew[height * row // 3 : height * (row + 1) // 3, width * column // 3 : width * (column + 1) // 3] = (
            True
        )
    if not anew.any():
        return picture, None
    finest = site.service.shapes(picture.shape[:2])[-1]
    touched = F.adaptive_max_pool2d(torch.from_numpy(anew.astype(np.float32))[None, None], finest)
    return picture, 1 - touched[0, 0]


def masked(picture: np.ndarray, keep: torch.Tensor) -> np.ndarray:
    """The picture with what is painted anew in the brush's colour."""
    height, width = picture.shape[:2]
    mask = keep.numpy()
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    return np.where(mask[rows][:, columns, None] > 0.5, picture, COLOUR)
