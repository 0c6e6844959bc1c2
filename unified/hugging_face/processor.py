"""The processor that is called as those of `transformers` are: `AutoProcessor.from_pretrained(FOLDER)`.

    inputs = processor(text="What is this?", images=picture, return_tensors="pt")
    inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True,
                                           return_dict=True, return_tensors="pt")
    processor.batch_decode(model.generate(**inputs, max_new_tokens=32)[:, inputs["input_ids"].shape[1] :])

Images become ids of the stream, so `input_ids` is all that a model is given. Rows are padded on the right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from unified.hugging_face.pushing import pushed
from unified.hugging_face.tokenizer import UnifiedTokenizer
from unified.pretrained import find
from unified.stream.messages import Message
from unified.stream.processor import Processor
from unified.stream.processor_files import load_processor
from unified.stream.segments import as_ids
from unified.stream.vocabulary import CONTROL, ROLES

IMAGE = "<|image|>"  # where an image stands in a text
TEXT_CONTROL = [name for name in CONTROL if name not in ("read", "write", "close", "pad")]
OPTIONS: dict[str, tuple[Any, ...]] = {  # of calls, and what they may be
    "padding": (None, True, "longest"),
    "padding_side": (None, "left", "right"),
    "truncation": (None, False),
    "add_special_tokens": (None, False),
}
WORD = re.compile(rf"(<\|(?:image|{'|'.join(TEXT_CONTROL)})\|>)")


Library: Any = ProcessorMixin


class UnifiedProcessor(Processor, Library):
    """`Processor` with the calls of `transformers`' processors. `decode` gives messages, as that of every
    `Processor`; `batch_decode` gives texts. It is a `ProcessorMixin` by name alone (pipelines ask for one):
    files, calls and ids are its own."""

    def __repr__(self) -> str:
        return f"UnifiedProcessor(visual={type(self.visual).__name__}, order={self.order!r})"

    @classmethod
    def of(cls, processor: Processor) -> UnifiedProcessor:
        """The same tokenizers."""
        own = processor
        options: Any = {"order": own.order, "sides": own.sides, "frame_sides": own.frame_sides}
        options["max_pixels"] = own.max_pixels
        return cls(own.vocabulary, own.stream.text, own.visual, own.action, **options)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> UnifiedProcessor:  # type: ignore[override]
        """Of a folder or a hub name (`revision`: of that)."""
        return cls.of(load_processor(find(folder, options.get("revision"))))

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Upload its files (`pushing.pushed`)."""
        return pushed(repository, self.save_pretrained, **options)

    @cached_property
    def tokenizer(self) -> UnifiedTokenizer:
        return UnifiedTokenizer.of(self.vocabulary, self.stream.text)

    @property
    def chat_template(self) -> str | None:
        """Of texts; images are written by `apply_chat_template` itself."""
        return self.tokenizer.chat_template

    # To ids -------------------------------------------------------------------------------------------------

    def __call__(
        self, images: Any = None, text: Any = None, *, return_tensors: str | None = None, **options: Any
    ) -> BatchFeature:
        """`text`: one or several; `images`: those of one text, or a list for each text. A text that does not
        begin with `<|begin|>` is what the user says, and the assistant's turn is opened; one that does is
        taken as `apply_chat_template(tokenize=False)` gives it. `<|image|>` is where an image stands;
        without any, images stand before what the user says. ValueError for another number of images than
        places."""
        texts = [text] if isinstance(text, str) or text is None else list(text)
        lists = _per_text(images, len(texts))
        rows = [self._ids(one or "", own) for one, own in zip(texts, lists, strict=True)]
        return self._batch(rows, return_tensors, options)

    def apply_chat_template(
        self,
        conversation: Any,
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        return_dict: bool = True,
        return_tensors: str | None = None,
        **options: Any,
    ) -> Any:
        """One conversation or a list of them, with pixels in the messages. Without `tokenize` a text (a list
        of texts) with `<|image|>` for each image; otherwise the batch that `__call__` gives, or with
        `return_dict` False its ids alone."""
        many = not isinstance(conversation[0], Mapping)
        conversations: list[list[Message]] = list(conversation) if many else [conversation]
        if options.pop("continue_final_message", False):
            raise ValueError("continue_final_message is not for this model: end with what the user says")
        if not tokenize:
            texts = [self._rendered(messages, add_generation_prompt) for messages in conversations]
            return texts if many else texts[0]
        rows = [self.encode(messages, prompt=add_generation_prompt) for messages in conversations]
        if not return_dict and return_tensors is None:
            return rows if many else rows[0]
        batch = self._batch(rows, return_tensors, {**options.pop("processor_kwargs", {}), **options})
        return batch if return_dict else batch["input_ids"]

    def _rendered(self, messages: Sequence[Message], prompt: bool) -> str:
        parts = ["<|begin|>"]
        for message in messages:
            content = message["content"]
            items = [{"type": "text", "text": content}] if isinstance(content, str) else content
            parts.append(f"<|{message['role']}|>")
            previous = None
            for item in items:
                kind = item.get("type")
                parts.append(_spelt(item, previous == "text"))
                previous = kind
            parts.append("<|end|>")
        return "".join([*parts, "<|assistant|>"] if prompt else parts)

    def _ids(self, text: str, images: Sequence[Any]) -> list[int]:
        raw = not text.startswith("<|begin|>")
        if raw and IMAGE not in text:
            text = IMAGE * len(images) + text
        if text.count(IMAGE) != len(images):
            raise ValueError(
                f"the text has {text.count(IMAGE)} places {IMAGE}, {len(images)} images were given"
            )
        pictures = iter(images)
        if raw:
            pieces = [piece for piece in re.split(f"({re.escape(IMAGE)})", text) if piece] or [""]
            content = [
                {"type": "image", "image": next(pictures)}
                if piece == IMAGE
                else {"type": "text", "text": piece}
                for piece in pieces
            ]
            return self.encode([{"role": "user", "content": content}], prompt=True)
        ids, role = list[int](), ""
        for piece in WORD.split(text):
            if piece == IMAGE:
                drawn = role == "assistant"
                ids += self.stream.content([self.image_item(next(pictures), drawn=drawn)])
            elif WORD.fullmatch(piece):
                role = piece[2:-2] if piece[2:-2] in ROLES else role
                ids.append(self.vocabulary.special[piece[2:-2]])
            elif piece:
                ids += self.stream.content([{"type": "text", "text": piece}])
        return ids

    def _batch(
        self, rows: Sequence[Sequence[int]], return_tensors: str | None, options: Mapping[str, Any]
    ) -> BatchFeature:
        for name, value in options.items():
            if value not in OPTIONS.get(name, ()):
                raise ValueError(f"this processor takes no {name}={value!r:.60}")
        side = options.get("padding_side") or "right"
        if return_tensors is None:
            return BatchFeature({"input_ids": [list(row) for row in rows]})
        if return_tensors != "pt":
            raise ValueError(f"return_tensors must be 'pt' or None, got {return_tensors!r}")
        width = max(map(len, rows))
        padded, mask = [], []
        for row in rows:
            blank = [self.vocabulary.pad] * (width - len(row))
            real, none = [1] * len(row), [0] * len(blank)
            padded.append([*blank, *row] if side == "left" else [*row, *blank])
            mask.append([*none, *real] if side == "left" else [*real, *none])
        return BatchFeature({"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)})

    # From ids -----------------------------------------------------------------------------------------------

    def batch_decode(
        self, rows: Sequence[Sequence[int]] | Tensor, skip_special_tokens: bool = True, **_: Any
    ) -> list[str]:
        """The texts of rows of ids, images left out; without `skip_special_tokens` every id by name."""
        words, found = self.vocabulary, []
        for row in rows:
            ids = as_ids(row, 1).tolist()
            said = [token for token in ids if words.is_text(token)]
            found.append(self.stream.text.decode(said) if skip_special_tokens else self.stream.print(ids))
        return found

    post_process_image_text_to_text = batch_decode


def _per_text(images: Any, count: int) -> list[list[Any]]:
    """A list of images for each text."""
    if not count:
        raise ValueError("the list of texts is empty: give at least one")
    if images is None:
        return [[]] * count
    if not isinstance(images, list | tuple):
        images = [images]
    if any(isinstance(one, list | tuple) for one in images):
        if len(images) != count:
            raise ValueError(f"{count} texts need as many lists of images, got {len(images)}")
        return [list(one) for one in images]
    if count == 1:
        return [list(images)]
    if len(images) != count:
        raise ValueError(f"{count} texts need as many images (or lists of them), got {len(images)}")
    return [[one] for one in images]


def _spelt(item: Mapping[str, Any], after_text: bool) -> str:
    """An item of a turn as text."""
    kind = item.get("type")
    if kind == "image":
        return IMAGE
    if kind != "text":
        raise ValueError(f"an item of type {kind!r} has no text form: use tokenize=True")
    text = item["text"]
    if (found := WORD.search(text)) is not None:
        raise ValueError(f"a text spells the control word {found[0]}: use tokenize=True, which escapes it")
    return f"<|part|>{text}" if after_text or not text else text
