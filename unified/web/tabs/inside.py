"""The tab that looks inside: the codes of every map of a picture, what an answer attends to, and how likely
its tokens are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
import numpy as np

from unified.web.examples import QUESTIONS, Examples
from unified.web.showing import code_map, figure, figures, heat, probabilities, status
from unified.web.site import Site, reason


def inside_tab(site: Site, examples: Examples) -> None:
    picture = gr.Image(
        label="Picture",
        type="filepath",
        sources=["upload", "clipboard"],
        height=260,
        buttons=[],
        elem_classes="given",
    )
    question = gr.Textbox(label="Question", placeholder=QUESTIONS[0], max_length=2000)
    rows = [[scene, words] for scene, words in zip(examples.scenes, QUESTIONS, strict=True)]
    gr.Examples(rows, [picture, question], label="Examples", api_visibility="private")
    begin = gr.Button("Look inside", variant="primary", elem_id="look")
    line = gr.HTML(status("Nothing looked at yet."), elem_id="look-status")
    gr.Markdown("### Codes of every map")
    codes = gr.HTML(elem_id="look-codes")
    gr.Markdown(
        "### Tokens of the answer\nProbabilities are the model's own, before temperature and filters."
    )
    tokens = gr.HTML(elem_id="look-tokens")
    gr.Markdown("### Where each token looks\nThe mean of the attention over layers and heads.")
    maps = gr.HTML(elem_id="look-attention")

    async def look(path: str | None, words: str) -> AsyncIterator[Any]:
        call, assistant = site.service.call, site.assistant()
        yield status("reading the picture", busy=True), "", "", ""
        try:
            image = site.picture(path)
            seen = await call(lambda: maps_of(assistant, image))
            count = assistant.processor.vocabulary.visual
            shown = figures([figure(image, "as the model reads it"), *(code_map(one, count) for one in seen)])
            if not words.strip():
                yield status("write a question to see an answer's tokens"), shown, "", ""
                return
            yield status("answering", busy=True), shown, "", ""
            answer = await call(
                lambda: assistant.ask(words, image, look=False, log_probs=True, max_tokens=48)
            )
            table = probabilities([(token.text, token.log_prob) for token in answer.tokens])
            if not answer:
                yield status("the model has no answer to this"), shown, table, ""
                return
            yield status("measuring attention", busy=True), shown, table, ""
            found = await call(lambda: assistant.attention(image, words, answer=answer))
            looks = [
                figure(heat(image, weights), repr(token))
                for token, weights in zip(found.tokens, found.mean(), strict=True)
            ]
            yield status(f"the answer: {answer}"), shown, table, figures(looks)
        except Exception as error:
            yield status(reason(error), error=True), gr.skip(), gr.skip(), gr.skip()

    gr.on(
        [begin.click, question.submit], look, [picture, question], [line, codes, tokens, maps],
        api_visibility="private", show_progress="hidden", concurrency_limit=4,
    )  # fmt: skip


def maps_of(assistant: Any, image: np.ndarray) -> list[np.ndarray]:
    """The codes of all maps by which an image uint8 [H, W, 3] is written, int64 [h, w] each, coarse first."""
    item = assistant.processor.image_item(image, drawn=True)
    counts = np.cumsum([height * width for height, width in item["shapes"]])[:-1]
    parts = zip(np.split(np.array(item["codes"]), counts), item["shapes"], strict=True)
    return [codes.reshape(shape) for codes, shape in parts]
