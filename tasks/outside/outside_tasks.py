"""Outside data as tasks, so that a mixture can hold them: `captions`, `llava` and `dataset`.

The content of a record (texts and image files) decides its split by hash, so doubles stay together. Indices
beyond the number of records start again from the first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from unified.tasks.outside.captions import Caption, read_captions
from unified.tasks.outside.faults import Faults, reason
from unified.tasks.outside.images import check_size
from unified.tasks.outside.llava import Conversation, read_llava
from unified.tasks.outside.loading import loadable
from unified.tasks.outside.stored import Record, read_stored
from unified.tasks.sample import Sample, check_split, split_of

FORMS = ("read", "draw")


def _check(config: Any) -> None:
    """ValueError for a value that no configuration of records may have."""
    form = getattr(config, "form", FORMS[0])
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}: choose one of {', '.join(FORMS)}")
    check_size(config.size)
    Faults(config.on_error)
    check_shares(config.validation, config.test)


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """`folder`: see `captions`. `form` "read" asks for the caption, "draw" for the image. `size`: side of
    the middle square, none for images as they are. `on_error`: "raise" or "skip" bad records."""

    folder: str
    form: str = "read"
    prompt: str = "Describe the picture."
    size: int | None = 64
    on_error: str = "raise"
    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class LlavaConfig:
    """`path` of the JSON file, `images` the folder of its images (default: that of the file); the rest as
    in `CaptionsConfig`."""

    path: str
    images: str | None = None
    size: int | None = 64
    on_error: str = "raise"
    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class StoredConfig:
    """`path` of the data set, `rows` the name of its split, if it has several; `form` "read" or "draw" for
    rows of an image with a text; the rest as in `CaptionsConfig`, but images keep their size by default."""

    path: str
    rows: str = "train"
    form: str = "read"
    size: int | None = None
    on_error: str = "raise"
    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        _check(self)


class OutsideTask:
    """Records by split and index."""

    name = ""

    def __init__(self, config: Any) -> None:
        self.config = config
        self._records: dict[str, list[Any]] = {}
        faults, hasher = Faults(config.on_error), hashlib.sha256()
        records = self.read(faults)
        # With "skip", records whose images cannot be read are left out at once: an index must not fail later.
        for record in records if config.on_error == "raise" else loadable(records, faults):
            with faults.at(record.where):
                content = hashlib.sha256(self.content(record)).hexdigest()
                hasher.update(content.encode())
                split = split_of(content, config.validation, config.test)
                self._records.setdefault(split, []).append(record)
        if not self._records:
            raise ValueError(f"{self.name}: no good record among {len(faults.lines)} bad: {faults.lines[0]}")
        self._fingerprint = hasher.hexdigest()

    def count(self, split: str = "train") -> int:
        """How many records a split has."""
        return len(self._records.get(split, ()))

    def fingerprint(self) -> str:
        """Hash of all records and their images, in order."""
        return self._fingerprint

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number. Raises ValueError for a split without records or a damaged image."""
        check_split(split)
        if isinstance(index, bool) or index < 0:
            raise ValueError(f"index must be a whole number of at least 0, got {index!r}")
        records = self._records.get(split)
        if not records:
            raise ValueError(f"{self.name}: no record falls into the split {split!r}")
        record = records[index % len(records)]
        try:
            messages = self.messages(record)
        except OSError as error:
            raise ValueError(f"{record.where}: {reason(error)}") from None
        return Sample(task=self.name, messages=messages, meta={"source": record.where})

    def score(self, sample: Sample, answer: list[dict[str, Any]]) -> dict[str, float]:
        """`exact`: the answer's text is that of the record; `psnr` for a drawn answer of the same size."""
        from unified.tasks.worlds.scoring import score_frames

        truth = sample.messages[-1]["content"]
        images = [item["image"] for item in truth if item["type"] == "image"]
        scores = {"exact": float(_words(answer) == _words(truth))} if _words(truth) else {}
        if images:
            drawn = [item["image"] for item in answer if item["type"] == "image"]
            scores |= score_frames(drawn, images)
        return scores

    def read(self, faults: Faults) -> Any:
        raise NotImplementedError

    def content(self, record: Any) -> bytes:
        raise NotImplementedError

    def messages(self, record: Any) -> list[dict[str, Any]]:
        raise NotImplementedError


class Captions(OutsideTask):
    """A folder of images with captions (option `folder`), to be described or drawn."""

    name = "captions"

    def __init__(self, config: CaptionsConfig) -> None:
        super().__init__(config)

    def read(self, faults: Faults) -> Any:
        return read_captions(self.config.folder, faults)

    def content(self, record: Caption) -> bytes:
        return record.text.encode() + b"\0" + record.path.read_bytes()

    def messages(self, record: Caption) -> list[dict[str, Any]]:
        image = {"type": "image", "image": record.image(self.config.size)}
        text = {"type": "text", "text": record.text}
        prompt = {"type": "text", "text": self.config.prompt}
        asked, answered = ([image, prompt], [text]) if self.config.form == "read" else ([text], [image])
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


class Llava(OutsideTask):
    """Conversations about images in LLaVA's JSON form (option `path`)."""

    name = "llava"

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__(config)

    def read(self, faults: Faults) -> Any:
        return read_llava(self.config.path, self.config.images, faults)

    def content(self, record: Conversation) -> bytes:
        texts = "\0".join(text for _, text in record.turns).encode()
        return texts + b"".join(hashlib.sha256(path.read_bytes()).digest() for path in record.images)

    def messages(self, record: Conversation) -> list[dict[str, Any]]:
        return record.messages(self.config.size)


def check_shares(validation: float, test: float) -> None:
    if not (0 <= validation <= 1 and 0 <= test <= 1 and validation + test <= 1):
        raise ValueError(f"validation and test are shares of the records, got {validation} and {test}")


def _words(content: list[dict[str, Any]]) -> str:
    return " ".join(" ".join(item["text"] for item in content if item["type"] == "text").lower().split())


class Stored(OutsideTask):
    """A Hugging Face data set on disk (option `path`), see `stored`."""

    name = "dataset"

    def __init__(self, config: StoredConfig) -> None:
        super().__init__(config)

    def read(self, faults: Faults) -> Any:
        return read_stored(self.config.path, self.config.rows, self.config.form, faults)

    def content(self, record: Record) -> bytes:
        return record.content()

    def messages(self, record: Record) -> list[dict[str, Any]]:
        return record.messages(self.config.size)


TASKS: dict[str, Any] = {Captions.name: Captions, Llava.name: Llava, Stored.name: Stored}
