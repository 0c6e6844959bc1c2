"""Nearest code per vector, the losses that tie vectors and codes together, and how many codes are in use."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = {"cpu": 2**20}  # distances held at once: what stays in a processor's cache
MOST_CELLS = 2**26  # on other devices: 256 MiB in float32


@torch.no_grad()
def nearest(vectors: Tensor, table: Tensor) -> Tensor:
    """Row of `table` [K, D] nearest to each of `vectors` [..., D] in Euclidean distance -> int64 [...].

    Always in float32 (bf16 makes ties), the first row on ties, in chunks so that K may be large.
    """
    flat, rows = vectors.reshape(-1, vectors.shape[-1]).float(), table.float()
    with torch.autocast(vectors.device.type, enabled=False):
        norms = rows.square().sum(1)
        parts = [_nearest(part, rows, norms) for part in flat.split(_chunk(rows))]
    return torch.cat(parts).reshape(vectors.shape[:-1])


def _nearest(vectors: Tensor, rows: Tensor, norms: Tensor) -> Tensor:
    """By distances less the square of the vector itself. On a processor NumPy finds the least faster than
    PyTorch."""
    distances = torch.addmm(norms, vectors, rows.T, alpha=-2)
    if distances.device.type == "cpu":
        return torch.from_numpy(distances.numpy().argmin(1))
    return distances.argmin(1)


def _chunk(rows: Tensor) -> int:
    return max(1, CELLS.get(rows.device.type, MOST_CELLS) // len(rows))


@torch.no_grad()
def most_aligned(vectors: Tensor, table: Tensor) -> Tensor:
    """Row of `table` [K, D] with the largest cosine to each of `vectors` [..., D] -> int64 [...]."""
    flat, rows = (
        F.normalize(vectors.reshape(-1, vectors.shape[-1]).float(), dim=-1),
        F.normalize(table.float(), dim=-1),
    )
    with torch.autocast(vectors.device.type, enabled=False):
        parts = [(part @ rows.T).argmax(1) for part in flat.split(_chunk(rows))]
    return torch.cat(parts).reshape(vectors.shape[:-1])


def squared_distances(vectors: Tensor, table: Tensor) -> Tensor:
    """Between every one of `vectors` [..., N, D] and every row of `table` [..., K, D] -> [..., N, K]."""
    lengths = vectors.square().sum(-1, keepdim=True) + table.square().sum(-1).unsqueeze(-2)
    return lengths - 2 * vectors @ table.mT


def entropy_loss(vectors: Tensor, table: Tensor, temperature: float = 0.01) -> Tensor:
    """Mean entropy of the soft assignment minus entropy of the mean assignment (LlamaGen). vectors [N, D],
    table [K, D].

    Minimising it makes each choice sure and the use of codes even.
    """
    return affinity_entropy(-squared_distances(vectors, table), temperature)


def affinity_entropy(affinity: Tensor, temperature: float = 0.01) -> Tensor:
    """`entropy_loss` of affinities [N, K] of vectors to rows. The constants 1e-5 are the published code's."""
    affinity = affinity / temperature
    probabilities = affinity.softmax(-1)
    log_probabilities = (affinity + 1e-5).log_softmax(-1)
    mean = probabilities.mean(0)
    each = -(probabilities * log_probabilities).sum(-1).mean()
    return each + (mean * (mean + 1e-5).log()).sum()


def usage(ids: Tensor, codes: int) -> tuple[float, float]:
    """(share of `codes` that occur in ids, perplexity of their distribution in [1, codes])."""
    counts = ids.flatten().bincount(minlength=codes).double()
    shares = counts / counts.sum()
    entropy = -(shares * shares.clamp_min(1e-30).log()).sum()
    return float((counts > 0).double().mean()), float(entropy.exp())


@torch.no_grad()
def k_means(vectors: Tensor, codes: int, generator: torch.Generator, rounds: int = 10) -> Tensor:
    """Rows [codes, D] that vectors [N, D] lie near to: Lloyd's algorithm from random vectors. A row that has
    none is moved onto a random vector. `generator` is on the CPU."""
    rows = vectors[torch.randperm(len(vectors), generator=generator)[:codes].to(vectors.device)].clone()
    if len(rows) < codes:
        raise ValueError(f"{codes} codes need as many vectors, got {len(vectors)}")
    for _ in range(rounds):
        ids = nearest(vectors, rows)
        counts = torch.bincount(ids, minlength=codes)[:, None]
        sums = torch.zeros_like(rows).index_add_(0, ids, vectors)
        spare = torch.randint(len(vectors), (codes,), generator=generator).to(vectors.device)
        rows = torch.where(counts > 0, sums / counts.clamp(min=1), vectors[spare])
    return rows
