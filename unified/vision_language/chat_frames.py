"""How a chat template spells turns: the ids between what is said.

A template is a program, and what a stream needs of it is data: which ids open a turn of each role, and which
one ends it. They are read off two conversations that the template itself writes; a template that spells turns
in another way each time, or ends them in several ways, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unified.vision_language.processor import PretrainedProcessor

SAID = ("alpha", "beta", "gamma")  # what is said in the conversations that are read off
TALK = ("user", "assistant", "user")


@dataclass(frozen=True)
class ChatFrames:
    """`end`: the id that ends a turn. `first` and `following`: by role, the ids that open the first turn of a
    conversation, and a later one after `end`."""

    end: int
    first: Mapping[str, tuple[int, ...]]
    following: Mapping[str, tuple[int, ...]]


def chat_frames(processor: PretrainedProcessor) -> ChatFrames:
    """Of the processor's chat template. ValueError, in one line, for one that has no such frames."""
    talk = [{"role": role, "content": said} for role, said in zip(TALK, SAID, strict=True)]
    opening, _, again, answer = pieces = _between(processor, talk)
    if not again or not answer or again[0] != answer[0]:
        raise ValueError(
            "the model's chat template ends turns of user and assistant in several ways: unified.load reads "
            "such a model, but it cannot be extended"
        )
    real = processor.prompt(talk).ids
    said = [_ids(processor, text) for text in SAID]
    spelled = [token for pair in zip(pieces, [*said, []], strict=True) for part in pair for token in part]
    before = len(real) - len(spelled)  # a begin-of-text id that the tokenizer adds
    if before < 0 or real[before:] != spelled:
        raise ValueError("the model's chat template does not spell a turn by itself: it cannot be extended")
    first = {"user": (*real[:before], *opening)}
    following = {"user": tuple(again[1:]), "assistant": tuple(answer[1:])}
    system = _system(processor, tuple(answer[:1]), following["user"])
    if system is not None:
        first["system"] = (*real[:before], *system)
    return ChatFrames(answer[0], first, following)


def _system(
    processor: PretrainedProcessor, end: tuple[int, ...], user: tuple[int, ...]
) -> tuple[int, ...] | None:
    """The ids that open a system's turn at the beginning; None for a template without such turns."""
    talk = [{"role": "system", "content": SAID[0]}, {"role": "user", "content": SAID[1]}]
    try:
        opening, between, _ = _between(processor, talk)
    except ValueError:  # templates refuse what they do not know
        return None
    return tuple(opening) if tuple(between) == (*end, *user) else None


def _between(processor: PretrainedProcessor, talk: Sequence[Mapping[str, str]]) -> list[list[int]]:
    """The ids before, between and after what is said in a conversation."""
    left, found = processor.rendered(talk), []
    for message in talk:
        before, said, left = left.partition(message["content"])
        if not said:
            raise ValueError("the model's chat template leaves out what is said: it cannot be extended")
        found.append(before)
    return [_ids(processor, text) for text in (*found, left)]


def _ids(processor: PretrainedProcessor, text: str) -> list[int]:
    ids: list[int] = processor.tokenizer.encode(text, add_special_tokens=False)
    return ids
