"""The tab that chats: words and drawings as they come; pictures are uploaded, dropped or pasted."""

from __future__ import annotations

import asyncio
import html
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr

from unified.server.uploads import data_url
from unified.web.examples import PROMPTS, QUESTIONS, Examples
from unified.web.showing import status
from unified.web.site import TOO_BUSY, Site, reason
from unified.web.talking import HELP, PageChat, Part, answered, messages

NAMED = """() => document.querySelector("#chat-box textarea")?.setAttribute("aria-label", "Your message")"""
KEPT = 3600  # seconds that a visitor's chat stays in memory


def chatting_tab(site: Site, examples: Examples, visitor: gr.BrowserState, page: gr.Blocks) -> None:
    chat = gr.State(None, time_to_live=KEPT)
    shown = gr.Chatbot(
        label="Conversation", height=460, buttons=["copy_all"], layout="bubble", elem_id="chat",
        placeholder="Nothing was said yet.", feedback_options=None,
    )  # fmt: skip
    line = gr.HTML(status("Ask about a picture, or have one drawn."), elem_id="chat-status")
    box = gr.MultimodalTextbox(
        label="Your message", placeholder="Write; attach, drop or paste a picture", sources=["upload"],
        file_types=["image"], file_count="multiple", max_plain_text_length=4000, elem_id="chat-box",
    )  # fmt: skip
    with gr.Row():
        stop = gr.Button("Stop", size="sm")
        others = {name: gr.Button(name.capitalize(), size="sm") for name in ("retry", "undo", "new")}
    talks = [
        {"text": QUESTIONS[0], "files": [examples.scenes[0]]},
        {"text": QUESTIONS[1], "files": [examples.scenes[1]]},
        {"text": PROMPTS[0], "files": []},
        {"text": "/solve", "files": [examples.maze]},
    ]
    gr.Examples([[talk] for talk in talks], [box], label="Examples", api_visibility="private")
    with gr.Accordion("Saved conversations", open=False):
        saved = gr.Dropdown([], label="Of this browser", elem_id="saved")
        with gr.Row():
            load, delete = gr.Button("Open", size="sm"), gr.Button("Delete", size="sm")
    gr.Markdown(f"Type to talk. Also: {HELP.partition('Also:')[2]}")

    async def send(
        one: PageChat | None, name: str, message: dict[str, Any]
    ) -> AsyncIterator[tuple[Any, Any, str, Any]]:
        """Chat, box, line and state after each event."""
        files, words = list(message.get("files") or []), str(message.get("text") or "")
        if one is None:
            one = PageChat(site.assistant(), site.digest, max_tokens=site.max_tokens)
        if one.busy:
            yield gr.skip(), gr.skip(), status(TOO_BUSY, error=True), one
            return
        one.busy = True
        try:
            urls: dict[int, str] = {}
            async for parts, said in answered(site, one, name, words, files):
                box = {"text": "", "files": []}
                yield view(parts, urls), box, status(said or "finished", busy=bool(said)), one
        except Exception as error:
            yield view(messages(one.transcript.entries)), gr.skip(), status(reason(error), error=True), one
        finally:
            one.busy = False

    async def command(one: PageChat | None, name: str, line: str) -> AsyncIterator[tuple[Any, Any, str, Any]]:
        async for found in send(one, name, {"text": line}):
            yield found

    async def titles(name: str) -> Any:
        rows = await asyncio.to_thread(site.store.conversations, name) if name else []
        return gr.Dropdown([(title, number) for number, title in rows], value=rows[0][0] if rows else None)

    async def visit(name: str) -> tuple[str, Any]:
        name = name if isinstance(name, str) and len(name) == 32 else secrets.token_hex(16)
        return name, await titles(name)

    async def opened(name: str, number: str | None) -> tuple[Any, Any, str]:
        found = await asyncio.to_thread(site.store.load, name, number) if number and name else None
        if found is None:
            return gr.skip(), gr.skip(), status("there is no such conversation", error=True)
        one = PageChat(site.assistant(), site.digest, max_tokens=site.max_tokens)
        goes_on = one.restore(found)
        said = "" if goes_on else ": it was with another model, which this one does not remember"
        return view(messages(one.transcript.entries)), one, status(f"opened{said}")

    async def removed(name: str, number: str | None) -> Any:
        if number and name:
            await asyncio.to_thread(site.store.delete, name, number)
        return await titles(name)

    outputs = [shown, box, line, chat]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    running: list[Any] = [box.submit(send, [chat, visitor, box], outputs, concurrency_limit=8, **quiet)]
    for name, button in others.items():
        words = gr.State(f"/{name}")
        running.append(button.click(command, [chat, visitor, words], outputs, concurrency_limit=8, **quiet))
    for one in running:
        one.then(titles, visitor, saved, **quiet)
    stop.click(lambda: status("stopped"), None, line, cancels=running, **quiet)
    load.click(opened, [visitor, saved], [shown, chat, line], **quiet)
    delete.click(removed, [visitor, saved], saved, **quiet)
    page.load(visit, visitor, [visitor, saved], **quiet)
    page.load(None, js=NAMED, **quiet)


def view(parts: Sequence[Part], urls: dict[int, str] | None = None) -> list[dict[str, str]]:
    """Messages as the chat shows them: text is text, whatever is in it. `urls`: of pictures that were shown
    before, by identity."""
    found, urls = [], {} if urls is None else urls
    for role, part in parts:
        if isinstance(part, str):
            content = html.escape(part.strip()).replace("\n", "<br>")
        else:
            what = "your picture" if role == "user" else "a drawn picture"
            url = urls[id(part)] = urls.get(id(part)) or data_url(part)
            content = f'<img src="{url}" alt="{what}" width="192">'
        found.append({"role": role, "content": content})
    return found
