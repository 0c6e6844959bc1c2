"""The KV cache: keys and values of all layers, in pre-allocated buffers that grow by half when full.

Every row has its own length, every layer its own entries with their index. A pass appends to some rows and
some layers (`Append`); the new entries count once they are committed, so a pass that raises leaves the cache
as it was. Concatenation at every step, as in usual dynamic caches, would copy the whole cache for each
token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from unified.cache.entries import Entries
from unified.cache.layer_store import Block, LayerStore, Places
from unified.layout.attention import Ancestry, Index, Seen, visible

ALL = slice(None)


class KVCache:
    """Keys and values of all layers for `rows` rows. `layers`: how many, or how many in each group of layers
    whose keys have one form. `capacity`: entries to allocate at first; more are added when needed. The
    buffers of a `static` cache never move or grow, every pass sees all of them under a mask, and
    `device_lengths` [layers, R] int32 on `device` follow the rows' lengths in place: what a captured CUDA
    graph or `flash_attn_with_kvcache` needs. Guidance takes as many rows again."""

    def __init__(
        self,
        layers: int | Sequence[int],
        rows: int = 1,
        capacity: int = 256,
        *,
        static: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        groups = [layers] if isinstance(layers, int) else list(layers)
        self.stores = [
            LayerStore(rows, capacity, static, block) for count in groups for block in [Block(count)] * count
        ]
        self.entries = [Entries(rows, capacity)] * sum(groups)  # shared until layers differ
        self.capacity = capacity if static else None
        self.device_lengths: Tensor | None = None
        if static:
            self.device_lengths = torch.zeros(sum(groups), rows, dtype=torch.int32, device=device)

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
        first = self.entries[0]
        if all(entries is first for entries in self.entries):
            return [first]
        return list({id(entries): entries for entries in self.entries}.values())

    def layers_of(self, entries: Entries) -> list[int]:
        """The numbers of the layers that share these entries."""
        return [layer for layer, held in enumerate(self.entries) if held is entries]

    def append(
        self,
        index: Index,
        counts: np.ndarray,
        rows: slice = ALL,
        layers: Sequence[int] | None = None,
        tree: Ancestry | None = None,
    ) -> Append:
        """Begin a pass that adds the first `counts` [r] of the positions `index` [r, n] to some rows, in all
        layers or in some: those may take other positions than the rest. `tree`: which positions are nodes of
        a tree."""
        return Append(self, index, counts, rows, layers, tree)

    def held(self, layer: int, rows: slice = ALL) -> tuple[Tensor, Tensor, np.ndarray]:
        """Keys and values [r, G, K, D] of a layer for some rows, and how many of them are each row's own [r].
        ValueError if it has never held any."""
        both, lengths = self.stores[layer].both, self.entries[layer].lengths[rows]
        if both is None:
            raise ValueError(f"layer {layer} holds no keys yet")
        keys, values = both[:, rows, : int(lengths.max(initial=0))].transpose(2, 3)
        return keys, values, lengths

    def keep(self, layers: Sequence[int], stays: np.ndarray) -> None:
        """Keep the entries marked in `stays`, [R, K] or, by head, [R, K, G] bool, in layers that share their
        entries. Other layers are unchanged."""
        entries = self._own(layers)
        source = entries.keep(stays)
        untouched = source.ndim == 2 and (source == np.arange(source.shape[1])).all()
        for layer in layers:
            if not untouched:
                self.stores[layer].move(source)
        self._tell_lengths()

    def pick(self, first: np.ndarray, picked: np.ndarray) -> None:
        """Of what each row holds in each layer from entry `first` [L, R] on, put those `picked` [R, k]
        (counted from there, ascending) in front in this order; what lies behind them is undefined then."""
        if (picked == np.arange(picked.shape[1])).all():
            return
        for entries in self.distinct():
            layers = self.layers_of(entries)
            starts = first[layers[0]][:, None]
            entries.move(starts + np.arange(picked.shape[1]), starts + picked)
            for layer in layers:
                self.stores[layer].copy(starts + np.arange(picked.shape[1]), starts + picked)

    def reserve(self, length: int) -> None:
        """Room for `length` entries in every row, so that what is known to come makes nothing grow twice. A
        static cache stays as it is."""
        for store in self.stores:
            if self.capacity is None and length > store.capacity:
                store.resize(length)

    def _tell_lengths(self) -> None:
        if self.device_lengths is not None:
            found = np.stack([entries.lengths for entries in self.entries])
            self.device_lengths.copy_(torch.from_numpy(found))

    def truncate(self, lengths: np.ndarray, layers: Sequence[int] | None = None) -> None:
        """Forget, in these layers (all), every entry of a row from `lengths` [R] or, by layer, [L, R] on.
        Layers that share entries must have the same lengths."""
        chosen = range(len(self.entries)) if layers is None else layers
        for entries in self.distinct():
            sharing = [layer for layer in self.layers_of(entries) if layer in chosen]
            if sharing:
                self._own(sharing).truncate(lengths if lengths.ndim == 1 else lengths[sharing[0]])
        self._tell_lengths()

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
        other.capacity = self.capacity
        if self.device_lengths is not None:
            chosen = torch.from_numpy(numbers).to(self.device_lengths.device)
            other.device_lengths = self.device_lengths[:, chosen]
        copies = {id(entries): entries.take(numbers) for entries in self.distinct()}
        other.entries = [copies[id(entries)] for entries in self.entries]
        other.stores = [store.take(numbers) for store in self.stores]
        return other

    @staticmethod
    def joined(parts: Sequence[KVCache]) -> KVCache:
        """A copy of the rows of several caches of one model, one after the other. ValueError for static
        caches."""
        if any(part.device_lengths is not None for part in parts):
            raise ValueError("static caches have as many rows as they were made with: they are not joined")
        other, copies = KVCache(0), dict[tuple[int, ...], Entries]()
        columns = list(zip(*(part.entries for part in parts), strict=True))
        for column in columns:  # layers that share their entries in every part share them afterwards
            key = tuple(map(id, column))
            copies[key] = copies.get(key) or Entries.joined(column)
        other.entries = [copies[tuple(map(id, column))] for column in columns]
        stores = zip(*(part.stores for part in parts), strict=True)
        other.stores = [LayerStore.joined(column) for column in stores]
        return other

    def add_rows(self, count: int) -> None:
        """More rows, empty. ValueError for a static cache."""
        if self.device_lengths is not None:
            raise ValueError(
                f"a static cache of {self.rows} rows cannot have {self.rows + count}: allocate more rows "
                "(guidance needs twice as many)"
            )
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

    def __init__(
        self,
        cache: KVCache,
        index: Index,
        counts: np.ndarray,
        rows: slice,
        layers: Sequence[int] | None = None,
        tree: Ancestry | None = None,
    ) -> None:
        self.cache, self.rows, self.counts, self.width = cache, rows, counts, index.sample.shape[1]
        self.query, self.tree = index, tree
        self.layers = frozenset(range(len(cache.entries)) if layers is None else layers)
        self.places: dict[int, Places] = {}  # by layer
        self.ran: set[int] = set()
        for _, sharing in self._groups():
            cache._own(sharing).write(index, counts, rows)
        if cache.device_lengths is not None:
            self._place_all(cache.device_lengths.device)

    def _groups(self) -> list[tuple[Entries, list[int]]]:
        """The entries that are added to, with those of the pass's layers that share them."""
        found = [(held, self.cache.layers_of(held)) for held in self.cache.distinct()]
        found = [(held, [layer for layer in layers if layer in self.layers]) for held, layers in found]
        return [(held, layers) for held, layers in found if layers]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Seen]:
        """Add key and value [r, G, n, D]; all keys and values of these rows [r, G, K, D], and what is
        seen."""
        if not self.places:
            self._place_all(key.device)
        places, store = self.places[layer], self.cache.stores[layer]
        both = store.reserve(key, places.room)
        store.write(key, value, self.rows, places)
        self.ran.add(layer)
        held = both[:, self.rows, : places.keys].transpose(2, 3)
        return held[0], held[1], places.seen

    def _place_all(self, device: torch.device) -> None:
        for entries, layers in self._groups():
            self.places.update(dict.fromkeys(layers, self._place(entries, layers[0], device)))

    def _place(self, entries: Entries, layer: int, device: torch.device) -> Places:
        starts = entries.lengths[self.rows]
        room, capacity = int(starts.max()) + self.width, self.cache.capacity
        if capacity is not None and room > capacity:
            raise ValueError(
                f"a static cache of {capacity} entries cannot hold {room}: allocate more capacity"
            )
        seen, keys = self._seen(entries, starts + self.counts, device)
        if self.cache.device_lengths is None and starts.min() == starts.max():
            return Places(int(starts[0]), room, keys, seen)
        rows = torch.arange(self.cache.rows, device=device)[self.rows, None]
        if self.cache.device_lengths is not None:
            first = self.cache.device_lengths[layer, self.rows, None].long()
            slots = rows, first + torch.arange(self.width, device=device)
            return Places(0, room, keys, seen, slots)
        entry = torch.from_numpy(starts[:, None] + np.arange(self.width)).to(device)
        return Places(0, room, keys, seen, (rows, entry))

    def _seen(self, entries: Entries, lengths: np.ndarray, device: torch.device) -> tuple[Seen, int]:
        """What is seen in layers that share entries, and of how many keys; a static cache hides the rest of
        its buffers."""
        most, capacity = int(lengths.max()), self.cache.capacity
        mask = visible(self.query, entries.index(self.rows, lengths))
        if self.tree is not None:
            allowed = torch.from_numpy(self.tree.over(lengths - self.counts, most))[:, None]
            mask = allowed if mask is None else mask & allowed
        by_length = mask is not None and mask.shape[2] == 1 and _is_prefix(mask, lengths)
        if capacity is not None:
            by_length = by_length or mask is None
            mask = torch.ones(1, 1, 1, most, dtype=torch.bool) if mask is None else mask
            mask = nn.functional.pad(mask, (0, capacity - most))
        device_lengths = torch.from_numpy(lengths).int().to(device) if by_length else None
        seen = Seen(None if mask is None else mask.to(device), device_lengths)
        return seen, most if capacity is None else capacity

    def commit(self) -> None:
        """Count the new entries, in the layers that ran."""
        for entries in self.cache.distinct():
            layers = self.cache.layers_of(entries)
            if not self.ran.issuperset(layers):
                layers = [layer for layer in layers if layer in self.ran]
                entries = self.cache._own(layers) if layers else entries
            if layers:
                entries.lengths[self.rows] += self.counts
        self.cache._tell_lengths()


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
