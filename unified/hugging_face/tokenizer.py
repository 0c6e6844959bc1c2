"""The text tokenizer of a model with its control words: `AutoTokenizer.from_pretrained(FOLDER)`.

Ids are those of the stream: `tokenizer("<|user|>Hi<|end|>").input_ids`. Visual codes and actions have no
spelling (a range may hold 2**32 codes): they are passed over by `decode`, and a `Processor` makes and reads
them. Unlike the stream, a tokenizer reads control words out of a user's text too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from tokenizers import AddedToken, Tokenizer
from unified.file_names import PROCESSOR
from unified.pretrained import find
from unified.stream.processor_files import load_processor
from unified.stream.vocabulary import Vocabulary

# As `Stream.encode` writes conversations of text: `part` marks an empty text and the border between two.
CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% set content = message['content'] %}"
    "{% if content is string %}{{ content if content else '<|part|>' }}{% else %}"
    "{% for item in content %}"
    "{% if item['type'] != 'text' %}"
    "{{ raise_exception('a tokenizer writes text alone: use the processor for ' + item['type'] + 's') }}"
    "{% endif %}"
    "{% if not loop.first or not item['text'] %}{{ '<|part|>' }}{% endif %}{{ item['text'] }}"
    "{% endfor %}{% endif %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class UnifiedTokenizer(PreTrainedTokenizerFast):
    """Of folders with `processor.json`, and of those that `save_pretrained` wrote."""

    @classmethod
    def of(cls, vocabulary: Vocabulary, text: Any) -> UnifiedTokenizer:
        """A text tokenizer with the control words of a vocabulary behind it. Ids that neither has are called
        `<|unused:N|>`."""
        core = Tokenizer.from_str(text.backend_tokenizer.to_str())
        count = core.get_vocab_size()
        unused = [f"<|unused:{number}|>" for number in range(count, vocabulary.text)]
        words = [f"<|{name}|>" for name in vocabulary.block]
        core.add_special_tokens([AddedToken(word, normalized=False) for word in (*unused, *words)])
        named = {name: str(core.id_to_token(number)) for name, number in vocabulary.named.items()}

        def spelt(name: str) -> str:
            return named.get(name, f"<|{name}|>")

        template = CHAT_TEMPLATE
        for name, token in named.items():
            template = template.replace(f"<|{name}|>", token)
        return cls(
            tokenizer_object=core,
            bos_token=spelt("begin"),
            eos_token=spelt("end"),
            pad_token=spelt("pad"),
            clean_up_tokenization_spaces=False,
            chat_template=template,
        )

    @classmethod
    def from_pretrained(cls, name: str | Path, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        """Of a folder or a hub name."""
        folder = find(name, options.get("revision"))
        if not (folder / PROCESSOR).is_file():
            return super().from_pretrained(folder, *arguments, **options)
        processor = load_processor(folder)
        return cls.of(processor.vocabulary, processor.stream.text)
