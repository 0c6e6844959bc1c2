"""Text as ids: byte-level BPE from Hugging Face's `tokenizers`, which can encode any string and give it back.

Without merges it is plain UTF-8 bytes (256 ids), a working tokenizer with nothing to train.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from unified.tokenizers.stand_ins import check_file

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One id per byte: 256 ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _fast(Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, [])))


def train_text_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `size` ids (at least 256) learned from texts. The same texts give the same
    tokenizer."""
    if size < 256:
        raise ValueError(f"a byte-level tokenizer needs at least 256 ids, got {size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return _fast(tokenizer)


def load_text_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """A tokenizer from a `tokenizer.json` file, which may be of any kind: it stays what it is."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no text tokenizer at {path}")
    check_file(Path(path))
    tokenizer = Tokenizer.from_file(str(path))
    return untouched(tokenizer) if tokenizer.pre_tokenizer or tokenizer.decoder else _fast(tokenizer)


def untouched(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with the pre-tokenizer, normaliser and decoder that it has; text comes back as decoded."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return untouched(tokenizer)
