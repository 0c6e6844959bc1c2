"""Worlds on a server (`unified serve`), over HTTP: for `unified/RemoteWorld-v0` and its vector form."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image
from unified.tokenizers.environment_action import complete
from unified.tokenizers.images import to_images, to_uint8

from unified.server.uploads import data_url
from unified.stream.message_forms import read_picture

MOST_AT_ONCE = 8  # requests
World = tuple[str, np.ndarray]  # its id, and its first frame uint8 [H, W, 3]


class RemoteWorlds:
    """The worlds of one client. `url`: of the server, such as http://127.0.0.1:8000; `key`: its API key, if
    it asks for one; `temperature`: 0 is greedy decoding; `timeout`: seconds of a request. ValueError for what
    the server refuses, in its words; ConnectionError where it is not reached."""

    def __init__(
        self, url: str, *, key: str | None = None, temperature: float = 0.0, timeout: float = 60.0
    ) -> None:
        import httpx

        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self.temperature = temperature

    def create(self, start: Mapping[str, Any], seeds: Sequence[int]) -> list[World]:
        """A world for each seed, from what `start_of` gave; none where one of them is refused. The server
        draws what words say for all of them in the same passes."""
        made: list[World] = []
        errors: list[Exception] = []
        bodies = [{**start, "temperature": self.temperature, "seed": seed} for seed in seeds]
        with ThreadPoolExecutor(min(len(bodies), MOST_AT_ONCE)) as requests:
            for future in [requests.submit(self._asked, "/v1/worlds", body) for body in bodies]:
                try:
                    found = future.result()
                    made.append((found["id"], _pixels(found["frame"])))
                except (ValueError, ConnectionError) as error:
                    errors.append(error)
        if errors:
            self.close([number for number, _ in made])
            raise errors[0]
        return made

    def step(self, number: str, action: Mapping[str, Any]) -> tuple[np.ndarray, int]:
        """The frame after an action, and the steps of the world so far. ValueError for a malformed action."""
        found = self._asked(f"/v1/worlds/{number}/step", {"actions": [_plain(action)]})
        return _pixels(found["frames"][0]), found["steps"]

    def step_all(self, actions: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, int]]:
        """`step` of several worlds at once, by their ids: one request, and the same passes of the model.
        After an error none has been stepped, unless the connection was lost meanwhile."""
        plain = {number: _plain(action) for number, action in actions.items()}
        found = self._asked("/v1/worlds/step", {"actions": plain})["worlds"]
        return {number: (_pixels(one["frame"]), one["steps"]) for number, one in found.items()}

    def close(self, numbers: Sequence[str]) -> None:
        """End worlds; those that were idle too long, or whose server is not there, have ended by
        themselves."""
        import httpx

        with suppress(httpx.HTTPError):
            for number in numbers:
                self._http.delete(f"/v1/worlds/{number}")

    def leave(self) -> None:
        """Close the connections."""
        self._http.close()

    def _asked(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import httpx

        try:
            answer = self._http.post(path, json=body)
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ConnectionError(f"no answer of {self._http.base_url}: {error}") from None
        if answer.is_error:
            raise ValueError(found["error"]["message"])
        return found


def start_of(start: Any) -> dict[str, Any]:
    """The part of a request that says where worlds start: at a picture, or at one that is drawn after words.
    ValueError for nothing, and for what is no picture."""
    if start is None:
        raise ValueError("a remote world starts from a picture or from words: give start=")
    if isinstance(start, str) and not start.startswith("data:"):
        return {"words": start}
    return {"image": data_url(to_uint8(to_images(read_picture(start)))[0])}


def _plain(action: Mapping[str, Any]) -> dict[str, Any]:
    """What is pressed, and the camera, as plain numbers. ValueError for a malformed action."""
    whole = complete(action)
    pressed = {name: 1 for name, value in whole.items() if name != "camera" and value}
    return {**pressed, "camera": whole["camera"].tolist()}


def _pixels(url: str) -> np.ndarray:
    """uint8 [H, W, 3] of a data URL with a PNG."""
    held = base64.b64decode(url.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(held), formats=["PNG"]).convert("RGB"))
