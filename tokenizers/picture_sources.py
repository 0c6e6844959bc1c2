"""Where a picture is, in the spellings of chat messages and of data sets: the one reader of them.

Known are a path, the bytes of a file, a `data:` URL (RFC 2397) or plain base64, a `file:` URL, and mappings
around one of these: OpenAI's `image_url`, Anthropic's `source`, {"bytes": ..., "path": ...} of `datasets`.
Nothing is downloaded.
"""

from __future__ import annotations

import base64
import binascii
import re
import reprlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from unified.tokenizers.picture_files import NOT_LOADED

ENCODED = ("bytes", "base64", "data")  # keys under which a text is base64
KEYS = ("image", *ENCODED, "url", "image_url", "source", "path")
"""Keys under which a picture is given; the first that is not null counts."""
KINDS = {  # what others call an item of a message: what it is here
    "image_url": "image",
    "input_image": "image",
    "input_text": "text",
    "output_text": "text",
}
AROUND = ("image", "image_url", "source")  # keys under which there may be another mapping
DEEPEST = 4  # mappings around one another
LONGEST_NAME = 1024  # letters of a path; a longer text is base64
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)  # of two letters at least: C: is a drive


def named_or_held(source: Any, deepest: int = DEEPEST) -> Any:
    """The name of a file (str), the bytes of one, or the picture in memory that `source` stands for.
    ValueError, in one line, for a malformed one and for an address on the web."""
    if isinstance(source, Mapping):
        key = next((key for key in KEYS if source.get(key) is not None), None)
        inner = None if key is None else source[key]
        if inner is None or (isinstance(inner, Mapping) and (key not in AROUND or deepest == 0)):
            found = ", ".join(map(str, source)) or "nothing"
            raise ValueError(f"an image needs a 'url', 'path' or 'bytes', got {found:.80}")
        if key in ENCODED and isinstance(inner, str) and inner[:5].lower() != "data:":
            return decoded(inner)
        return named_or_held(inner, deepest - 1)
    if isinstance(source, str):
        return _of_text(source)
    return bytes(source) if isinstance(source, bytearray) else source


def kind_of(item: Mapping[str, Any]) -> Any:
    """What kind of item of a message this is; Qwen-VL's have no type, but the key "text" or "image"."""
    kind = item.get("type") or next((key for key in ("text", "image", "action") if key in item), None)
    return KINDS.get(kind, kind) if isinstance(kind, str) else kind


def decoded(text: Any) -> bytes:
    """The bytes of base64, line breaks allowed. ValueError for anything else."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError, AttributeError):
        raise ValueError(f"{reprlib.repr(text)} is not base64") from None


def _of_text(text: str) -> str | bytes:
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if scheme == "data":
        head, comma, body = text.partition(",")
        if not comma:
            raise ValueError("a data: URL has a comma before its data")
        return decoded(unquote(body)) if head.lower().endswith(";base64") else unquote_to_bytes(body)
    if scheme == "file":
        url = urlsplit(text)
        return re.sub(r"^/(?=[A-Za-z]:)", "", unquote(url.netloc.removeprefix("localhost") + url.path))
    if scheme and text.startswith("//", len(scheme) + 1):
        raise ValueError(f"{reprlib.repr(text)}: {NOT_LOADED}")
    if len(text) > LONGEST_NAME and not text.isspace():
        return decoded(text)
    if "\0" in text or not text.strip():
        raise ValueError(f"{reprlib.repr(text)}: no such file")
    return text
