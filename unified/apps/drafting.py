"""Text drafted by a smaller model for an assistant: the same answers with fewer passes of the large one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unified.decoding.strategies import SmallerModel, Speculative

PROBES = (
    "Hello! What is in this picture?",
    "x = [1, 22, 333]; caf\N{LATIN SMALL LETTER E WITH ACUTE}\n\n  \N{CJK UNIFIED IDEOGRAPH-6F22}",
)


def draft_with(assistant: Any, folder: str | Path, *, length: int = 4, **loading: Any) -> str:
    """Let the model of a folder or hub name (`loading`: options of `load`) draft `length` ids of text a round
    in all that the assistant says from now on. Returns "", or one line that says why it cannot: then nothing
    has changed. ValueError if there is no such model."""
    from unified.apps.loading import load

    draft = load(folder, **loading)
    if not hasattr(assistant, "strategy") or not hasattr(draft.model, "text_logits"):
        return f"{folder} drafts nothing: it needs two models that say text"
    if not same_spelling(assistant, draft):
        return f"{folder} drafts nothing: its text tokenizer is another than that of {assistant.folder}"
    assistant.strategy = Speculative(draft=SmallerModel(draft.model), length=length)
    return ""


def same_spelling(one: Any, other: Any) -> bool:
    """Whether two assistants spell text by the same ids."""
    first, second = _tokenizer(one), _tokenizer(other)
    if first is None or second is None:
        return False
    if hasattr(first, "get_vocab") and hasattr(second, "get_vocab"):
        words, others = first.get_vocab(), second.get_vocab()
        if any(others.get(word, number) != number for word, number in words.items()):
            return False
    return all(_ids(first, text) == _ids(second, text) for text in PROBES)


def _tokenizer(assistant: Any) -> Any:
    """What spells text: of a pretrained model, or of the stream."""
    own = getattr(assistant.processor, "tokenizer", None)
    return own if own is not None else getattr(getattr(assistant.processor, "stream", None), "text", None)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text))
