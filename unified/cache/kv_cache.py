"""The KV cache: keys and values of all layers, in pre-allocated buffers that grow by half when full.

Every row has its own length, every layer its own entries with their index. A pass appends to some rows and
some layers (`Append`); the new entries count once they are committed, so a pass that raises leaves the cache
as it was. Concatenation at every step, as in usual dynamic caches, would copy the whole cache for each
token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unified.cache.entries import Entries
from unified.layout.attention import Index, Seen, visible

ALL = slice(None)


class LayerStore:
    """Keys and values of one layer, each [R, capacity, G, D] (the layout of `flash_attn_with_kvcache`; G: KV
    heads, D: head width). A buffer that grows has the heads before the entries in memory, which is faster on
    CPUs; a static one is contiguous."""

    def __init__(self, rows: int, capacity: int, static: bool) -> None:
        self.rows, self.capacity, self.static = rows, capacity, static
        self.both: Tensor | None = None  # [2, R, capacity, G, D]

    def _buffer(self, like: Tensor) -> Tensor:
        """A buffer for keys like [r, G, n, D], of zeros: masked entries must not hold NaN."""
        groups, width = like.shape[1], like.shape[3]
        if self.static:
            return like.new_zeros(2, self.rows, self.capacity, groups, width)
        return like.new_zeros(2, self.rows, groups, self.capacity, width).transpose(2, 3)

    def reserve(self, like: Tensor, length: int) -> Tensor:
        """The buffer [2, R, capacity, G, D] with a capacity of at least `length` entries in every row.
        ValueError if it is static and too small."""
        if self.both is None:
            self.capacity = max(self.capacity, length)
            self.both = self._buffer(like)
        elif length > self.capacity:
            if self.static:
                raise ValueError(
                    f"a static cache of {self.capacity} entries cannot hold {length}: allocate more capacity"
                )
            self.resize(max(length, self.capacity + self.capacity // 2))
        return self.both

    def resize(self, capacity: int) -> None:
        """Copy the entries that fit into a buffer of this capacity."""
        old = self.both
        self.capacity = capacity
        if old is not None:
            self.both = self._buffer(old[0].transpose(1, 2))
            used = min(capacity, old.shape[2])
            self.both[:, :, :used] = old[:, :, :used]

    def write(self, key: Tensor, value: Tensor, rows: slice, starts: np.ndarray) -> None:
        """Write key and value [r, G, n, D] after the first `starts` [r] entries of some rows."""
        count, both = key.shape[2], self.both
        assert both is not None
        new = (key.transpose(1, 2), value.transpose(1, 2))
        if starts.min() == starts.max():
            both[0, rows, starts[0] : starts[0] + count] = new[0]
            both[1, rows, starts[0] : starts[0] + count] = new[1]
            return
        places = torch.from_numpy(starts[:, None] + np.arange(count)).to(key.device)
        numbers = torch.arange(self.rows, device=key.device)[rows, None]
        both[0].index_put_((numbers, places), new[0].to(both.dtype))
        both[1].index_put_((numbers, places), new[1].to(both.dtype))

    def move(self, source: np.ndarray) -> None:
        """Gather: entry j of each row becomes the former entry `source[:, j]`, [R, k] or, by head, [R, k,
        G]."""
        if self.both is None or not source.shape[1]:
            return
        taken = torch.from_numpy(source).to(self.both.device)
        taken = taken if taken.ndim == 3 else taken[..., None]
        taken = taken[None, ..., None].expand(2, -1, -1, self.both.shape[3], self.both.shape[4])
        self.both[:, :, : source.shape[1]] = self.both.gather(2, taken)

    def take(self, rows: np.ndarray) -> LayerStore:
        """A copy of the rows of these numbers, repeats allowed."""
        other = LayerStore(len(rows), self.capacity, self.static)
        if self.both is not None:
            other.both = other._buffer(self.both[0].transpose(1, 2))
            other.both.copy_(self.both[:, torch.from_numpy(rows).to(self.both.device)])
        return other

    def add_rows(self, count: int) -> None:
        """Append empty rows."""
        old, self.rows = self.both, self.rows + count
        if old is not None:
            self.both = self._buffer(old[0].transpose(1, 2))
            self.both[:, : old.shape[1]] = old


class KVCache:
    """Keys and values of all layers for `rows` rows. `capacity`: entries allocated at first, more when
    needed; the buffers of a `static` cache never change (for CUDA graphs), and a longer row is a
    ValueError."""

    def __init__(self, layers: int, rows: int = 1, capacity: int = 256, *, static: bool = False) -> None:
        self.stores = [LayerStore(rows, capacity, static) for _ in range(layers)]
        self.entries = [Entries(rows, capacity)] * layers  # shared until layers differ

    @property
    def rows(self) -> int:
        return self.entries[0].rows

    @property
    def lengths(self) -> np.ndarray:
        """[R]: the number of entries of each row in the layer that has most."""
        return np.max([entries.lengths for entries in self.distinct()], axis=0)

    @property
    def lengths_by_layer(self) -> np.ndarray:
        """[L, R]: how many entries each layer holds of each row."""
        return np.stack([entries.lengths for entries in self.entries])

    @property
    def length(self) -> int:
        """The largest number of entries of any row in any layer."""
        return int(self.lengths.max())

    def distinct(self) -> list[Entries]:
        """The entries of all layers, each object once."""
        return list({id(entries): entries for entries in self.entries}.values())

    def layers_of(self, entries: Entries) -> list[int]:
        """The numbers of the layers that share these entries."""
        return [layer for layer, held in enumerate(self.entries) if held is entries]

    def append(self, index: Index, counts: np.ndarray, rows: slice = ALL) -> Append:
        """Begin a pass that adds the first `counts` [r] of the positions `index` [r, n] to some rows."""
        return Append(self, index, counts, rows)

    def keep(self, layers: Sequence[int], stays: np.ndarray) -> None:
        """Keep the entries marked in `stays`, [R, K] or, by head, [R, K, G] bool, in layers that share their
        entries. Other layers are unchanged."""
        entries = self._own(layers)
        source = entries.keep(stays)
        untouched = source.ndim == 2 and (source == np.arange(source.shape[1])).all()
        for layer in layers:
            if not untouched:
                self.stores[layer].move(source)

    def truncate(self, lengths: np.ndarray, layers: Sequence[int] | None = None) -> None:
        """Forget, in these layers (all), every entry of a row from `lengths` [R] or, by layer, [L, R] on.
        Layers that share entries must have the same lengths."""
        chosen = range(len(self.entries)) if layers is None else layers
        for entries in self.distinct():
            sharing = [layer for layer in self.layers_of(entries) if layer in chosen]
            if sharing:
                self._own(sharing).truncate(lengths if lengths.ndim == 1 else lengths[sharing[0]])

    def release(self, layers: Sequence[int]) -> None:
        """Give back the memory of these layers that holds no entries, if that is more than half of it. A
        static cache keeps its buffers."""
        for layer in layers:
            store, held = self.stores[layer], int(self.entries[layer].lengths.max())
            if not store.static and store.capacity > 2 * held:
                store.resize(held)

    def _own(self, layers: Sequence[int]) -> Entries:
        """The entries of these layers, copied if another layer shares them."""
        entries = self.entries[layers[0]]
        if any(held is entries for layer, held in enumerate(self.entries) if layer not in layers):
            entries = entries.copy()
        for layer in layers:
            self.entries[layer] = entries
        return entries

    def share(self) -> None:
        """Share the entries of the first layer among all layers whose entries are equal to them."""
        first = self.entries[0]
        self.entries = [first if held is not first and _same(held, first) else held for held in self.entries]

    def take(self, rows: Sequence[int]) -> KVCache:
        """A copy of the rows of these numbers, repeats allowed: branches of one prefix."""
        numbers = np.asarray(rows, dtype=np.int64)
        other = KVCache(0)
        copies = {id(entries): entries.take(numbers) for entries in self.distinct()}
        other.entries = [copies[id(entries)] for entries in self.entries]
        other.stores = [store.take(numbers) for store in self.stores]
        return other

    def add_rows(self, count: int) -> None:
        """Append empty rows."""
        for entries in self.distinct():
            entries.add_rows(count)
        for store in self.stores:
            store.add_rows(count)

    def nbytes(self) -> int:
        """Bytes of the keys and values of committed entries."""
        total = 0
        for store, entries in zip(self.stores, self.entries, strict=True):
            if store.both is not None:
                groups, width = store.both.shape[3:]
                total += 2 * int(entries.lengths.sum()) * groups * width * store.both.element_size()
        return total


class Append:
    """The new entries of one pass: written layer by layer, part of the cache once `commit` is called."""

    def __init__(self, cache: KVCache, index: Index, counts: np.ndarray, rows: slice) -> None:
        self.cache, self.rows, self.counts, self.width = cache, rows, counts, index.sample.shape[1]
        self.query = index
        self.seen: dict[int, Seen] = {}  # by entries
        self.ran: set[int] = set()
        for entries in cache.distinct():
            entries.write(index, counts, rows)

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Seen]:
        """Write a layer's new key and value [r, G, n, D]: all keys and values of these rows [r, G, K, D], and
        the mask or the lengths by which queries see them."""
        entries, store = self.cache.entries[layer], self.cache.stores[layer]
        starts = entries.lengths[self.rows]
        both = store.reserve(key, int(starts.max()) + self.width)
        store.write(key, value, self.rows, starts)
        self.ran.add(layer)
        most = int((starts + self.counts).max())
        held = both[:, self.rows, :most].transpose(2, 3)
        return held[0], held[1], self._seen(entries, key.device)

    def _seen(self, entries: Entries, device: torch.device) -> Seen:
        found = self.seen.get(id(entries))
        if found is None:
            lengths = entries.lengths[self.rows] + self.counts
            key = entries.index(self.rows, lengths)
            mask = visible(self.query, key)
            by_length = mask is not None and mask.shape[2] == 1 and _is_prefix(mask, lengths)
            device_lengths = torch.from_numpy(lengths).int().to(device) if by_length else None
            found = Seen(None if mask is None else mask.to(device), device_lengths)
            self.seen[id(entries)] = found
        return found

    def commit(self) -> None:
        """Count the new entries, in the layers that ran."""
        for entries in self.cache.distinct():
            layers = [layer for layer in self.cache.layers_of(entries) if layer in self.ran]
            if layers:
                self.cache._own(layers).lengths[self.rows] += self.counts


def _is_prefix(mask: Tensor, lengths: np.ndarray) -> bool:
    """Whether a mask [r, 1, 1, K] lets each row see exactly its first `lengths` [r] keys."""
    prefix = np.arange(mask.shape[-1]) < lengths[:, None]
    return bool((mask[:, 0, 0].numpy() == prefix).all())


def _same(one: Entries, other: Entries) -> bool:
    """Whether both hold the same; what lies beyond a row's own entries is without meaning."""
    if (one.lengths != other.lengths).any():
        return False
    inside = np.arange(int(one.lengths.max(initial=0))) < one.lengths[:, None]
    most = inside.shape[1]
    return bool((~inside | (one.table[:, :, :most] == other.table[:, :, :most])).all())
