"""What ARBooth trains: a few vectors that stand for the subject in the features of a text, and
cross-attention and feed-forward networks of all blocks. Everything else stays frozen.

Source: Fine-Tuning Visual Autoregressive Models for Subject-Driven Generation, arXiv
2504.02612; jiwoogit/ARBooth (MIT). Saved, it is a small file (`unified.adapter_files`). Test:
tests/unified/checkpoints/arbooth/test_arbooth.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from unified.adapter_files import AdapterFile, AdapterSet, difference, fingerprint, save_adapter
from unified.checkpoints.infinity import Infinity

KINDS = ("ca", "ffn")  # cross-attention and feed-forward networks
SUBJECT = "special_token"  # the published name of the subject's vectors


def selected(names: Sequence[str], kinds: Sequence[str] = KINDS) -> list[str]:
    """Those of the names of Infinity's parameters, published or ours, that belong to these modules of a block
    ("sa", "ca", "ffn")."""
    pattern = re.compile(rf"(?:block_chunks\.\d+\.module|blocks)\.\d+\.(?:{'|'.join(kinds)})\..+")
    return [name for name in names if pattern.fullmatch(name)]


def freeze_but(model: nn.Module, names: Sequence[str]) -> list[nn.Parameter]:
    """Let gradients reach these parameters alone; they are returned. ValueError for an unknown name."""
    known = dict(model.named_parameters())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"the model has no parameter {unknown[0]}")
    chosen = set(names)
    for name, parameter in known.items():
        parameter.requires_grad_(name in chosen)
    return [known[name] for name in names]


class Subject(nn.Module):
    """`length` vectors of the text features' channels, zero at the start. They replace the feature of the
    subject's symbol wherever a text has it; the text is then so much longer."""

    def __init__(self, channels: int, length: int = 4) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"a subject needs at least one vector, got length {length}")
        self.vectors = nn.Parameter(torch.zeros(length, channels))

    def forward(self, text: Tensor, places: Tensor) -> Tensor:
        """Features [n, Ct] of a text, of which `places` [n] bool mark the symbol -> [n + k (length - 1), Ct]
        for k marks."""
        if places.shape != text.shape[:1]:
            raise ValueError(f"a text of {len(text)} features needs as many marks, got {tuple(places.shape)}")
        return torch.cat([self.vectors if mark else text[n, None] for n, mark in enumerate(places.tolist())])


# Files ------------------------------------------------------------------------------------------------------


def save_subject(path: Path, tuned: Infinity, base: Infinity, subject: Subject) -> None:
    """Write what was trained beside a base: the subject's vectors, and what was added to weights."""
    names = selected([name for name, _ in tuned.named_parameters()])
    tensors = {**difference(tuned, base, names), SUBJECT: subject.vectors}
    adapter = AdapterFile(
        "subject", tensors, fingerprint(base), type(base).__name__, options={"beside": [SUBJECT]}
    )
    save_adapter(path, adapter)


def load_subject(path: Path, adapters: AdapterSet, name: str) -> Subject:
    """Add the changes of a subject's file to a base under a name; its vectors. ValueError if the file is of
    another base or another kind."""
    found = adapters.load(name, path)
    if found.kind != "subject" or SUBJECT not in found.tensors:
        adapters.remove(name)
        raise ValueError(f"{path}: an adapter of kind {found.kind!r} is no subject")
    vectors = found.tensors[SUBJECT]
    subject = Subject(vectors.shape[1], len(vectors))
    with torch.no_grad():
        subject.vectors.copy_(vectors)
    return subject
