"""Messages as other libraries write them, in the form that the processor takes.

Known are Hugging Face's chat templates (`{"type": "image", "image" | "path" | "url" | "base64": ...}`),
OpenAI's (`image_url`, `input_image`, `input_text`), Anthropic's (`source`) and Qwen-VL's (items without a
type). Pictures come as `tokenizers.picture_sources` says, or in memory; nothing is downloaded.
"""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unified.stream.vocabulary import ROLES
from unified.text_files import at_home
from unified.tokenizers.picture_files import check_picture
from unified.tokenizers.picture_sources import KEYS as PICTURE_KEYS
from unified.tokenizers.picture_sources import kind_of, named_or_held

Message = dict[str, Any]

STREAM_KEYS = ("codes", "latents", "placeholder")  # an image of the stream itself
ROLE_HINTS = {
    "tool": "the model calls no tools, leave these messages out or give their text to the user",
    "function": "the model calls no functions, leave these messages out or give their text to the user",
    "developer": "use system",
    "human": "use user",
    "gpt": "use assistant",
    "model": "use assistant",
    "bot": "use assistant",
}
CALLS = ("tool_calls", "function_call", "tool_call_id")


def plain_messages(messages: Any) -> list[Message]:
    """Messages with the keys `role` and `content`, the items of the kinds text, image (pixels under "image"),
    action and features. ValueError, in one line, for what cannot be brought into this form; unknown keys are
    passed over with one warning."""
    if not isinstance(messages, list | tuple):
        raise ValueError("messages must be a list of {'role': ..., 'content': ...}")
    return [plain_message(message, number) for number, message in enumerate(messages)]


def plain_message(message: Any, number: int = 0) -> Message:
    """One message; `number` names it in errors."""
    where = f"message {number}"
    if not isinstance(message, Mapping):
        raise ValueError(f"{where} must be a dict with the keys 'role' and 'content'")
    given = _without_nulls(message)
    if call := next((key for key in CALLS if given.get(key)), None):
        raise ValueError(f"{where} has {call!r}: {ROLE_HINTS['tool']}")
    for key in ("role", "content"):
        if key not in given:
            raise ValueError(f"{where} has no {key!r}: give it 'role' and 'content'")
    role, content = given["role"], given["content"]
    if role not in ROLES:
        hint = ROLE_HINTS.get(role) if isinstance(role, str) else None
        known = f"the roles are {', '.join(ROLES)}"
        raise ValueError(f"{where} has role {reprlib.repr(role)}: {f'{hint} ({known})' if hint else known}")
    _pass_over(given, ("role", "content"))
    if isinstance(content, str):
        return {"role": role, "content": content}
    if not isinstance(content, list | tuple):
        raise ValueError(f"{where}: content is a str or a list of items, got {type(content).__name__}")
    items = [_plain_item(item, f"{where}, item {place}") for place, item in enumerate(content)]
    return {"role": role, "content": items}


def _plain_item(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise ValueError(f"{where} is a {type(item).__name__}: give a dict such as {{'type': 'text', ...}}")
    given = _without_nulls(item)
    kind = kind_of(given)
    if kind == "text" and "text" in given:
        _pass_over(given, ("type", "text"))
        return {"type": "text", "text": given["text"]}
    if kind == "image" and not any(key in given for key in STREAM_KEYS):
        _pass_over(given, ("type", *PICTURE_KEYS))
        return {"type": "image", "image": _picture(given, where)}
    if kind not in ("text", "image", "action", "features"):
        raise ValueError(f"{where} has type {reprlib.repr(kind)}: use text, image, features or action")
    if kind == "text":
        raise ValueError(f"{where} (text) has no text: give 'text'")
    return {**given, "type": kind}


def _picture(item: Mapping[str, Any], where: str) -> Any:
    if not any(key in item for key in PICTURE_KEYS):
        raise ValueError(f"{where} (image) has no picture: give 'image' (a picture, a path or a data: URL)")
    try:
        return read_picture({key: item[key] for key in PICTURE_KEYS if key in item})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def read_picture(source: Any) -> Any:
    """The picture that a source (`tokenizers.picture_sources`) stands for: a path or bytes, whose header was
    read; a picture in memory is returned as it is. ValueError, in one line, for what is no picture."""
    found = named_or_held(source)
    if isinstance(found, str):
        found = at_home(found)
    if not isinstance(found, bytes | Path):
        return found
    try:
        check_picture(found)
    except ValueError as error:
        name = "" if isinstance(found, bytes) else str(found)
        raise ValueError(str(error).replace(name, reprlib.repr(name)) if len(name) > 100 else error) from None
    return found


def _without_nulls(given: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in given.items() if value is not None}


def _pass_over(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = [key for key in given if key not in known]
    if unknown:
        warnings.warn(f"messages have keys that are not read: {', '.join(unknown)}", stacklevel=2)
