"""`unified serve`: the model behind an interface that programs already know."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unified.apps.commands.common import check_folder, own_assistant

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "multipart")
NEEDED_BY_PAGE = ("gradio",)


def serve(options: argparse.Namespace) -> int:
    """Until Ctrl-C. ValueError, in one line, for a server that others could reach without a key."""
    _check_installed("server", "serve", NEEDED)
    if options.page:
        _check_installed("page", "web", NEEDED_BY_PAGE)
    import uvicorn

    from unified.server.app import create_app
    from unified.server.guard import LOCAL, Access
    from unified.server.keys import VARIABLE, Keys, is_loopback
    from unified.server.limits import Limits, RequestLimits

    keys, local = Keys.read(options.api_key_file), is_loopback(options.host)
    if not keys and not local:
        raise ValueError(f"{options.host} is reached by others: set {VARIABLE} or give --api-key-file")
    request = RequestLimits(**_given(options, "tokens", "images", "seconds"))
    limits = Limits(**_given(options, "rows", "queue"), **_worlds(options.worlds), request=request)
    hosts = LOCAL if local and not keys else ()
    access = Access(keys=keys, origins=options.origin, hosts=hosts, bytes=request.bytes, page=options.page)
    page = _page(options.store) if options.page else None
    assistant = own_assistant(options)
    name = options.name or (assistant.folder.name if options.model and assistant.folder else "unified")
    app = create_app(assistant, limits=limits, access=access, name=name, page=page)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    shown = f"[{options.host}]" if ":" in options.host else options.host
    at = f"http://{shown}:{options.port}"
    print(f"{name} at {at}/v1" + (f", its page at {at}/" if options.page else ""), flush=True)
    config = uvicorn.Config(
        app, host=options.host, port=options.port, access_log=False, log_level="warning",
        server_header=False, timeout_graceful_shutdown=5, ws_max_size=request.bytes,
    )  # fmt: skip
    uvicorn.Server(config).run()  # Ctrl-C is raised again once it has stopped
    return 0


def _check_installed(what: str, extra: str, names: Sequence[str]) -> None:
    """ImportError, in one line, where a package is missing."""
    if any(importlib.util.find_spec(name) is None for name in names):
        raise ImportError(f"the {what} needs more packages: pip install 'unified-multimodal[{extra}]'")


def _page(folder: Path) -> Callable[[Any, Any], None]:
    """What adds the page; conversations and votes are kept in the folder. ValueError where they cannot be."""
    check_folder(folder)
    from unified.web.page import add_page

    def add(app: Any, service: Any) -> None:
        try:
            add_page(app, service, folder)
        except (OSError, sqlite3.Error) as error:
            raise ValueError(f"{folder}: conversations and votes cannot be kept here: {error}") from None

    return add


def _worlds(count: int | None) -> dict[str, int]:
    """The limits of one client's worlds and of all; nothing where it was not given."""
    from unified.server.limits import Limits

    return {} if count is None else {"worlds": count, "all_worlds": max(count, Limits.all_worlds)}


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given on the command line; the limits have defaults of their own."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}
