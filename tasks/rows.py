"""Rows of a data set: samples of a mixture as messages or as ids, in Hugging Face's feature types."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unified.tasks.mixture import Mixture, MixtureConfig
from unified.tasks.packing import Row, pack

if TYPE_CHECKING:
    from datasets import Features

COLUMNS = {"messages": ("messages", "images", "task", "meta"), "ids": ("ids", "task")}


class RowMaker:
    """Row i of a configuration. Raises ValueError for a task that refuses its options or a processor that
    cannot be had."""

    def __init__(self, config: MixtureConfig) -> None:
        self.config, self.mixture = config, Mixture(config)
        self.processor = load_processor(config.processor) if config.processor else None

    def row(self, index: int) -> Row:
        sample = self.mixture[index]
        if self.processor is None:
            row = pack(sample)
            return {**row, "images": [{"bytes": image, "path": None} for image in row["images"]]}
        try:
            with one_thread():
                return {"ids": self.processor.encode(sample.messages), "task": sample.task}
        except ValueError as error:
            raise ValueError(f"sample {index} ({sample.task}): {error}") from None

    def rows(self, indices: range) -> Iterator[Row]:
        return (self.row(index) for index in indices)


def load_processor(name: str) -> Any:
    """What the function "module:function" returns. Raises ValueError if there is no such function or it
    returns no processor."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ValueError(f'processor must be "module:function", got {name!r}')
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"no processor {name!r}: {error}") from None
    processor = function()
    if not callable(getattr(processor, "encode", None)):
        raise ValueError(f"{name!r} returned {type(processor).__name__}, not a Processor")
    return processor


def features(kind: str) -> Features:
    """The column types of a format, "messages" or "ids"."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    if kind == "ids":
        return Features({"ids": List(Value("int64")), "task": text})
    return Features({"messages": text, "images": List(Image()), "task": text, "meta": text})


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of floats depend on the number of threads, and so could codes: ids are made with one. A processor
    that has not loaded torch needs no such care."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
