"""The tokenizer that TRL's trainers ask for: it knows how rows are padded and where turns end, no more; texts
and images become ids by a `Processor`."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerFast

from tokenizers import Tokenizer, models
from unified.stream.vocabulary import Vocabulary


def control_tokenizer(vocabulary: Vocabulary) -> Any:
    """Of `<|pad|>` and `<|end|>` by their ids in the stream."""
    names = {"<|pad|>": vocabulary.pad, "<|end|>": vocabulary.end, "<|begin|>": vocabulary.begin}
    raw = Tokenizer(models.WordLevel(names, unk_token="<|pad|>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|end|>", bos_token="<|begin|>"
    )
