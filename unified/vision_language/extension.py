"""A pen for a pretrained image-text model: visual codes, action ids, heads and slot embeddings beside it.

The pretrained model stays as it is, bit for bit, and so do its logits: new ids have rows beside its tables
(`backbone.extended_tables`), its vision tower is a reader (`readers.vision_tower`), its tokenizer and its
chat template spell the stream (`stream.base_words`). A folder holds what is new, and adapters, beside a
reference to the pretrained model:

    config.json         `UnifiedConfig`; its `base` names the pretrained model and knows it again
    model.safetensors   the weights that the pretrained model has not, and those that training has changed
    adapters/0, 1, ...  adapters (`peft`), merged in this order
    processor.json, ... as of every model (`unified.pretrained`)

Source of the idea: VARGPT-v1.1, arXiv 2504.02949, which gives Qwen2-VL such parts and trains them before the
rest. Tests: tests/unified/vision_language/test_extension.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers.initialization import no_init_weights

from unified import adapters
from unified.backbone.extended_tables import TIED, is_pretrained, tie
from unified.config import UnifiedConfig
from unified.model import UnifiedModel
from unified.stream.base_words import FEATURES, BaseWords
from unified.stream.processor import Processor
from unified.stream.vocabulary import Vocabulary
from unified.tokenizers.action import ActionTokenizer
from unified.tokenizers.text import untouched
from unified.vision_language.chat_frames import chat_frames
from unified.vision_language.files import CONFIG, load_pretrained
from unified.vision_language.kind import is_pretrained as is_pretrained_folder
from unified.vision_language.model import TOGETHER, PretrainedReader
from unified.vision_language.processor import PretrainedProcessor
from unified.weight_files import check_fit, read_safetensors

ADAPTERS = "adapters"
TABLE = "backbone.embed_tokens.base.weight"
EXTRAS: dict[str, dict[str, Any]] = {"reference": {}, "copy_gate": {}}
MOST_ROWS = 2**16  # codes of a table; more are written as bits
PROBES = 4096  # rows of the pretrained embedding that its mean and size are taken of
ROUNDING = 1e-6  # of the largest number of a weight
SAMPLE = 64  # numbers of a weight that a fingerprint looks at


@dataclass(frozen=True, kw_only=True)
class Pen:
    """What a model is given. `visual`: a visual tokenizer; `order`, `sides`, `frame_sides`: how it is written
    (`Processor`); `max_side`: longest side of a map of codes; `actions`: whether it gets action ids."""

    visual: Any
    order: str = "next_scale"
    sides: Sequence[int] | None = None
    frame_sides: Sequence[int] | None = None
    max_side: int = 64
    actions: bool = False


# Making -----------------------------------------------------------------------------------------------------


def extend(source: str | Path, folder: Path, pen: Pen, *, seed: int = 0) -> tuple[UnifiedModel, Processor]:
    """A pretrained image-text model in a folder (named `source` in the result) with a pen, in float32, and
    its processor. ValueError, in one line, for what is no such model, or what cannot be extended."""
    if not is_pretrained_folder(folder):
        raise ValueError(f"{folder / CONFIG}: names no image-text model of transformers")
    reader, words = load_pretrained(folder)
    if not reader.sees:
        raise ValueError(
            f"{folder}: {reader.config.model_type} reads text only and has no vision tower: `unified extend` "
            "takes an image-text model"
        )
    vocabulary = _vocabulary(reader, words, pen)
    action = ActionTokenizer() if pen.actions else None
    layout: Any = {"order": pen.order, "sides": pen.sides, "frame_sides": pen.frame_sides}
    backend = getattr(words.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{folder}: its tokenizer has no tokenizer.json: save it as a fast tokenizer first")
    processor = Processor(vocabulary, untouched(backend), pen.visual, action, **layout)
    state = pretrained_state(reader)
    base = {
        "source": str(source),
        "fingerprint": fingerprint(state),
        "tied": state[TIED] is state[TABLE],
        "ends": sorted(reader.ends),
    }
    torch.manual_seed(seed)
    model = UnifiedModel(_config(reader, vocabulary, base))
    _fill(model, {**model.state_dict(), **state})  # each weight is the pretrained model's own, not a copy
    _start(model, pen.visual)
    return model.eval(), processor


def _vocabulary(reader: PretrainedReader, words: PretrainedProcessor, pen: Pen) -> Vocabulary:
    frames, action = chat_frames(words), ActionTokenizer()
    base = BaseWords(
        image=reader.image,
        together=reader.config.model_type in TOGETHER,
        first=frames.first,
        following=frames.following,
    )
    return Vocabulary(
        text=reader.embed.num_embeddings,
        visual=pen.visual.codes,
        action=action.size if pen.actions else 0,
        action_slots=action.slots if pen.actions else 1,
        max_side=pen.max_side,
        named={"end": frames.end},
        base=base,
    )


def _config(reader: PretrainedReader, words: Vocabulary, base: dict[str, Any]) -> UnifiedConfig:
    whole: Any = reader.config
    small = words.visual <= MOST_ROWS or words.visual & (words.visual - 1)
    return UnifiedConfig(
        vocabulary=words.to_dict(),
        backbone=_plain(whole.get_text_config()),
        head="categorical" if small else "bitwise",
        extras=EXTRAS,
        readers={FEATURES: {"kind": "vision_tower", "model": _plain(whole)}},
        base=base,
    )


def _plain(config: Any) -> dict[str, Any]:
    """A configuration of transformers as plain data, without what belongs to this process."""
    found = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if name != "attn_implementation"}


@torch.no_grad()
def _start(model: UnifiedModel, visual: Any) -> None:
    """First weights of new rows. Those of the head are the mean of the pretrained ones: their logits are the
    mean of the others', so that none of them is ever the largest before it is trained (compare Hewitt 2021,
    Initializing New Word Embeddings). Embeddings are as large as those of words, around their mean."""
    table: Any = model.get_input_embeddings()
    rows = torch.linspace(0, table.base.num_embeddings - 1, min(PROBES, table.base.num_embeddings)).long()
    embedded = table.base(rows).float()
    size = embedded.square().mean().sqrt().item()
    table.new.weight.copy_(embedded.mean(dim=0) + 0.1 * size * torch.randn(table.new.weight.shape))
    head: Any = model.text_head
    head.new.weight.copy_(head.base.weight.mean(dim=0).expand_as(head.new.weight))
    std = model.config.initializer_range
    own: Any = model.head
    if hasattr(own, "start_from"):
        own.start_from(F.normalize(visual.codebook().detach().cpu().float(), dim=-1), std)
    for weight in (*own.embedding.parameters(), *model.slots.parameters()):
        weight.mul_(size / std)


# The pretrained part ----------------------------------------------------------------------------------------


def pretrained_state(reader: PretrainedReader) -> dict[str, Tensor]:
    """The weights of an image-text model under the names that they have in an extension. ValueError for a
    model whose parts do not fit: a head of other rows than its embedding has, or with a bias."""
    pretrained: Any = reader.pretrained
    inner, decoder = pretrained.model, reader.decoder
    place = next(name for name, module in inner.named_modules() if module is decoder)
    head: Any = pretrained.get_output_embeddings()
    if head.weight.shape != reader.embed.weight.shape or head.bias is not None:
        raise ValueError(
            f"{reader.config.model_type}: its head does not fit its embedding: cannot be extended"
        )
    found = {f"backbone.{name}": value for name, value in decoder.state_dict().items()}
    found[TABLE] = found.pop("backbone.embed_tokens.weight")
    tied = head.weight is reader.embed.weight
    found[TIED] = found[TABLE] if tied else head.weight.detach()
    for name, value in inner.state_dict().items():
        if not name.startswith(f"{place}."):
            found[f"readers.{FEATURES}.tower.{name}"] = value
    return found


@torch.no_grad()
def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that change with the names, the shapes or the values of weights. It looks at
    `SAMPLE` numbers of each, in bfloat16: the same in whatever type the weights are loaded."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        flat = value.detach().reshape(-1)
        part = flat[:: max(len(flat) // SAMPLE, 1)].cpu().bfloat16().contiguous().view(torch.uint8)
        digest.update(f"{name}{tuple(value.shape)}".encode() + part.numpy().tobytes())
    return digest.hexdigest()[:16]


def _fill(model: UnifiedModel, state: Mapping[str, Tensor]) -> None:
    """Put weights into a model, without copies. ValueError, in one line, unless they fit."""
    check_fit(model.state_dict(), state)
    model.load_state_dict(dict(state), assign=True)
    base: Any = model.config.base
    if base["tied"]:
        tie(model.backbone, model.text_head)  # type: ignore[arg-type]
    for name, weight in model.named_parameters():
        weight.requires_grad_(not name.startswith(f"readers.{FEATURES}."))


# Files ------------------------------------------------------------------------------------------------------


def load_extension(
    folder: Path, config: UnifiedConfig, base: Path, *, dtype: torch.dtype = torch.float32
) -> UnifiedModel:
    """The model of a folder, whose pretrained part lies in the folder `base`, in evaluation mode on the CPU.
    ValueError, in one line, if either is missing, damaged, or not what it was."""
    path = folder / "model.safetensors"
    stored = {name: value.to(dtype) for name, value in read_safetensors(path).items()}
    state = merged_base(folder, _checked_base(config, base, dtype))
    own = {name: value for name, value in stored.items() if ".lora_" not in name}
    if len(own) < len(stored):  # a checkpoint of a stage of adapters
        _add(state, adapters.changes(folder, stored), folder)
    state |= own
    if config.base["tied"]:  # type: ignore[index]
        state[TIED] = state[TABLE]
    with no_init_weights():  # all of them are there
        model = UnifiedModel(config)
    try:
        _fill(model, state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return model.eval()


def _checked_base(config: UnifiedConfig, base: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    known: Any = config.base
    state = pretrained_state(load_pretrained(base, dtype=dtype)[0])
    if fingerprint(state) != known["fingerprint"]:
        raise ValueError(f"{base}: these are not the weights of {known['source']} that were extended")
    return state


def merged_base(folder: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The pretrained part with the adapters of a folder merged, in float32."""
    found = dict(state)
    for number in range(len(list((folder / ADAPTERS).glob("*")))):
        path = folder / ADAPTERS / str(number)
        _add(found, adapters.changes(path), path)
    return found


def _add(state: dict[str, Tensor], changes: Mapping[str, Tensor], path: Path) -> None:
    """Add what adapters change to weights, in place. ValueError if they do not fit."""
    for name, change in changes.items():
        if name not in state or state[name].shape != change.shape:
            raise ValueError(f"{path}: these adapters do not fit: {name}")
        state[name] = (state[name].float() + change).to(state[name].dtype)


def save_weights(
    folder: Path, state: Mapping[str, Tensor], config: UnifiedConfig, base: Path, dtype: torch.dtype
) -> None:
    """Write of an extension's weights those that its pretrained part in the folder `base`, with the adapters
    that lie in `folder`, has not."""
    expected = merged_base(folder, _checked_base(config, base, torch.float32))
    own = {name: value for name, value in state.items() if not _known(name, value, expected)}
    if config.base["tied"]:  # type: ignore[index]
        own.pop(TIED, None)
    stored = {name: value.detach().cpu().to(dtype).contiguous() for name, value in own.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def _known(name: str, value: Tensor, expected: Mapping[str, Tensor]) -> bool:
    """Whether a weight is the pretrained model's own, which merged adapters leave a rounding error beside."""
    if not is_pretrained(name) or name not in expected:
        return False
    found = expected[name].to(value.dtype)
    return bool((found - value).abs().max() <= ROUNDING * found.abs().max())
