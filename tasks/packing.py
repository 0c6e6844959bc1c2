"""A sample as one row of plain data and back, and its hash.

A row has the columns `messages` (JSON; an image item is a bare `{"type": "image"}`), `images` (PNG files, in
the order of those items), `task` and `meta` (JSON). Nothing is lost: pixels and camera angles come back
exactly.
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import numpy as np
from PIL import Image
from unified.tasks.sample import Sample
from unified.tokenizers.environment_action import complete
from unified.tokenizers.picture_files import open_picture, to_pixels

from unified.text_files import check_unicode

Row = dict[str, Any]


def pack(sample: Sample) -> Row:
    """The row of a sample. Raises ValueError, naming message and item, for anything that is not text, a uint8
    image [H, W, 3] or a complete action with a finite camera."""
    images: list[bytes] = []
    messages = []
    for number, message in enumerate(sample.messages):
        where = f"{sample.task}: message {number}"
        items = [_plain(item, images, f"{where}, item {k}") for k, item in enumerate(message["content"])]
        messages.append({"role": message["role"], "content": items})
    meta = _dump(sample.meta, f"{sample.task}: meta")
    return {
        "messages": _dump(messages, sample.task),
        "images": images,
        "task": sample.task,
        "meta": meta,
    }


def unpack(row: Row) -> Sample:
    """The sample of a row; images may be PNG bytes, `{"bytes": ...}` as `datasets` stores them, or PIL
    images."""
    images = iter(row["images"])
    messages = json.loads(row["messages"])
    for message in messages:
        message["content"] = [_restored(item, images) for item in message["content"]]
    return Sample(task=row["task"], messages=messages, meta=json.loads(row["meta"]))


def digest(sample: Sample) -> str:
    """SHA-256 of everything in a sample, pixels included: equal digests mean equal samples."""
    hasher = hashlib.sha256(json.dumps([sample.task, sample.meta], sort_keys=True).encode())
    hasher.update(content_digest(sample).encode())
    return hasher.hexdigest()


def content_digest(sample: Sample) -> str:
    """SHA-256 of what a model sees alone: roles, texts, actions and pixels."""
    hasher = hashlib.sha256()
    for message in sample.messages:
        hasher.update(json.dumps(message["role"]).encode())
        for item in message["content"]:
            if item["type"] == "image":
                hasher.update(json.dumps(["image", *item["image"].shape]).encode())
                hasher.update(np.ascontiguousarray(item["image"]).tobytes())
            else:
                hasher.update(json.dumps(_plain(item, [], "item"), sort_keys=True).encode())
    return hasher.hexdigest()


def check_image(image: Any, where: str) -> None:
    """Raises ValueError unless the image is uint8 [H, W, 3]."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{where}: an image must be a uint8 array [H, W, 3], got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{where}: an image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")


def _plain(item: dict[str, Any], images: list[bytes], where: str) -> dict[str, Any]:
    kind = item.get("type")
    if kind == "text" and isinstance(item.get("text"), str):
        return {"type": "text", "text": item["text"]}
    if kind == "image" and "image" in item:
        check_image(item["image"], where)
        images.append(_png(item["image"]))
        return {"type": "image"}
    if kind == "action" and "action" in item:
        return {"type": "action", "action": _plain_action(item["action"], where)}
    raise ValueError(f"{where}: an item is text, image or action with its value, got type {kind!r}")


def _plain_action(action: Any, where: str) -> dict[str, Any]:
    try:
        whole = complete(action)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return {**whole, "camera": whole["camera"].tolist()}


def _restored(item: dict[str, Any], images: Any) -> dict[str, Any]:
    if item["type"] == "image":
        return {"type": "image", "image": _pixels(next(images))}
    if item["type"] == "action":
        camera = np.array(item["action"]["camera"], np.float32)
        return {"type": "action", "action": {**item["action"], "camera": camera}}
    return item


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, dict):  # as `datasets` keeps it: its bytes, or where they are
        image = image["path"] if image["bytes"] is None else image["bytes"]
    return to_pixels(image) if isinstance(image, Image.Image) else open_picture(image).image


def _dump(data: Any, where: str) -> str:
    try:
        check_unicode(data)
        return json.dumps(data, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not plain JSON data: {error}") from None
