"""`unified serve`: the model behind an interface that programs already know."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.apps.commands.common import check_folder, own_assistant

if TYPE_CHECKING:
    from unified.server.guard import Access
    from unified.server.limits import Limits

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "multipart")
NEEDED_BY_PAGE = ("gradio",)
NEEDED_BY_CLUSTER = ("ray",)


def serve(options: argparse.Namespace) -> int:
    """Until Ctrl-C. ValueError, in one line, for a server that others could reach without a key."""
    _check_installed("server", "serve", NEEDED)
    if options.page:
        _check_installed("page", "web", NEEDED_BY_PAGE)
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
    return (_serve if options.cluster is None else _serve_replicas)(options, limits, access)


def _serve(options: argparse.Namespace, limits: Limits, access: Access) -> int:
    """In this process."""
    import uvicorn

    from unified.server.app import create_app

    page = _page(options.store) if options.page else None
    assistant = own_assistant(options)
    name = options.name or (assistant.folder.name if options.model and assistant.folder else "unified")
    app = create_app(assistant, limits=limits, access=access, name=name, page=page)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    print(f"{name} at {_at(options)}/v1" + (f", its page at {_at(options)}/" if page else ""), flush=True)
    config = uvicorn.Config(
        app, host=options.host, port=options.port, access_log=False, log_level="warning",
        server_header=False, timeout_graceful_shutdown=5, ws_max_size=limits.request.bytes,
    )  # fmt: skip
    uvicorn.Server(config).run()  # Ctrl-C is raised again once it has stopped
    return 0


def _serve_replicas(options: argparse.Namespace, limits: Limits, access: Access) -> int:
    """In replicas of a Ray cluster. ValueError, in one line, for a bad configuration and for a page."""
    if options.page:
        raise ValueError("a page keeps its conversations in one process: give --page or --cluster")
    _check_installed("cluster", "cluster", NEEDED_BY_CLUSTER)
    from unified.pretrained import find
    from unified.server.cluster import Served, cluster
    from unified.server.cluster_config import read_cluster

    config, folder = read_cluster(options.cluster), find(options.model or None)
    name = options.name or (folder.name if options.model else "unified")
    served = Served(load=partial(own_assistant, options), limits=limits, access=access, name=name)
    with cluster(served, config, host=options.host, port=options.port):
        replicas = config.replicas
        count = f"{replicas.least} to {replicas.most}" if replicas.most > replicas.least else replicas.most
        print(f"{name} at {_at(options)}/v1, replicas: {count}", flush=True)
        threading.Event().wait()
    return 0


def _at(options: argparse.Namespace) -> str:
    shown = f"[{options.host}]" if ":" in options.host else options.host
    return f"http://{shown}:{options.port}"


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
