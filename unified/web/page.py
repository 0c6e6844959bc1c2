"""The page: its tabs, and how it is added to the server's application.

Nothing on it comes from another host: fonts are the browser's own, and a Content-Security-Policy forbids
requests elsewhere. gradio fetches addresses that a visitor names in place of a file; `Closed` refuses them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from PIL import Image
from starlette.middleware import Middleware

from unified.server.service import Service
from unified.web.closed import Closed
from unified.web.examples import Examples
from unified.web.site import Site
from unified.web.store import Store
from unified.web.tabs.chatting import chatting_tab
from unified.web.tabs.comparing import comparing_tab
from unified.web.tabs.drawing import drawing_tab
from unified.web.tabs.editing import editing_tab
from unified.web.tabs.inside import inside_tab
from unified.web.tabs.playing import KEYS, playing_tab
from unified.web.tabs.solving import solving_tab

FORGET = (600, 3600)  # seconds: how often uploaded files are looked through, and how old they become
WAITING = 64  # requests of the page that wait at most
THEME: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
STYLE = Path(__file__).parent / "style.css"


def add_page(app: FastAPI, service: Service, folder: Path) -> Store:
    """Add the page to an application, under every path that has no route. `folder`: where conversations and
    votes are kept."""
    store, limits = Store(folder), service.limits.request
    Image.MAX_IMAGE_PIXELS = limits.pixels // 2  # Pillow refuses twice as many, also where gradio opens files
    gr.mount_gradio_app(
        app,
        create_page(Site(service, store)),
        path="/",
        app_kwargs={"middleware": [Middleware(Closed)], "docs_url": None, "redoc_url": None},
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=limits.bytes,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        theme=gr.themes.Default(**THEME),
        css_paths=STYLE,
        head=f"<script>{KEYS}</script>",
    )
    return store


def create_page(site: Site) -> gr.Blocks:
    """All tabs."""
    examples = Examples(site.service.assistant.side)
    with gr.Blocks(title="Unified", analytics_enabled=False, delete_cache=FORGET) as page:
        visitor = gr.BrowserState("", storage_key="unified-visitor", secret=site.store.secret)
        gr.Markdown(
            f"# Unified\nOne model that reads, draws and edits pictures, solves mazes and imagines a world. "
            f"Model: {site.service.name}. The shipped model knows coloured shapes, small mazes and blocks."
        )
        with gr.Tabs():
            with gr.Tab("Chat", id="chat"):
                chatting_tab(site, examples, visitor, page)
            with gr.Tab("Draw", id="draw"):
                drawing_tab(site)
            with gr.Tab("Edit", id="edit"):
                editing_tab(site, examples)
            with gr.Tab("Solve", id="solve"):
                solving_tab(site, examples)
            with gr.Tab("Play", id="play"):
                playing_tab(site)
            with gr.Tab("Compare", id="compare"):
                comparing_tab(site, examples)
            with gr.Tab("Look inside", id="inside"):
                inside_tab(site, examples)
    page.queue(max_size=WAITING, default_concurrency_limit=8, api_open=False)
    page.examples = examples  # their files live as long as the page
    return page
