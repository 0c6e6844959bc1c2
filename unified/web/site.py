"""What the tabs share: the server's service, the store, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unified.apps.assistant import Assistant
from unified.command import told
from unified.server.errors import ApiError
from unified.server.service import Service
from unified.server.uploads import picture_of_bytes
from unified.web.store import Store

TOO_BUSY = "this page is still busy with your last request"
FAILED = "the model failed on this request"


@dataclass
class Site:
    """`service`: the model and its limits; `store`: what is kept."""

    service: Service
    store: Store
    open_worlds: set[int] = field(default_factory=set)  # of all visitors

    def assistant(self, seed: int = 0) -> Assistant:
        """The model with a seed of its own: what a visitor sets on it changes nothing for others."""
        one = self.service.assistant
        return Assistant(one.model, one.processor, seed=seed, side=one.side, folder=one.folder)

    @cached_property
    def digest(self) -> str:
        """Whose ids the model reads and writes."""
        from unified.train.preference.data import tokenizer_digest

        return tokenizer_digest(self.service.assistant.processor)

    @property
    def max_tokens(self) -> int:
        """Ids of text that an answer in a chat has at most."""
        return min(512, self.service.limits.request.tokens)

    def picture(self, path: str | None) -> np.ndarray:
        """An uploaded file as the model reads it, uint8 [H, W, 3]. ValueError, in one line, for none, and for
        what is no picture."""
        if not path:
            raise ValueError("there is no picture yet: upload, drop or paste one, or take an example")
        held = Path(path).read_bytes()
        return self.service.assistant.picture(picture_of_bytes(held, self.service.limits.request.pixels))


def client_of(request: Any) -> str:
    """Who sends a request of gradio's, as the server's guard has named them."""
    state = getattr(request.request, "state", None)
    return str(getattr(state, "client", "") or f"page {request.session_hash}")


def seed_of(value: float | None) -> int:
    """A seed as it was typed. ValueError for none that is."""
    if value is None or not 0 <= value < 2**31 or value != int(value):
        raise ValueError("a seed is a whole number from 0 to 2147483647")
    return int(value)


def reason(error: Exception) -> str:
    """One sentence for a visitor: what was wrong with the request; nothing of the inside."""
    if isinstance(error, ApiError):
        return error.message
    return told(error) if isinstance(error, ValueError) else FAILED
