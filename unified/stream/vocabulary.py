"""One vocabulary for everything: text | special | visual | action | appended, in this order of ids.

Special ids mark turns and images; an image's header spells its order and the sizes of its maps, so that the
ids alone say how it is laid out. The visual range may be huge (2**32 for 32-bit codes): no table has a row
for each. A vocabulary only grows at its end (`extended`): a new order or placeholder shifts no other id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from torch import Tensor

from unified.orders.shapes import Shape
from unified.stream.base_words import FEATURES, MARKS, NONE, PLACES, BaseWords

CONTROL = ("pad", "begin", "system", "user", "assistant", "end", "part", "read", "write", "close")
ROLES = ("system", "user", "assistant")
CONTINUOUS = "continuous"  # the placeholder of continuous values, see `Vocabulary.placeholder`
DEFAULT_TAIL = ("order:next_scale", "order:residual", "order:raster", "order:diagonal", CONTINUOUS)
APPENDED = re.compile(rf"order:\w+(\([\w=',. -]*\))?|{CONTINUOUS}(:\w+)?|reserved:\d+")
LEAST = {"text": 1, "visual": 2, "action": 0, "action_slots": 1, "max_side": 1, "merge": 0}
MOST = {"action_slots": 2**16, "max_side": 2**16}  # each side has an id and a name


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """How many ids of each sort there are. `max_side` is the longest side of a map of codes; an action is
    always `action_slots` ids long. With `merge` (0: never) every 2 x 2 codes of a map whose sides are at
    least that long share one position of the backbone (`unified.layout.patch_merging`).

    `appended`: names of the ids after the action range, in the order in which they were added: `order:NAME`,
    `continuous`, `continuous:NAME` (placeholders), `reserved:N`. None: DEFAULT_TAIL, or nothing if there are
    `orders`. `orders`: orders whose ids stand in the special block, as in models saved before there was a
    tail. `named`: control words whose ids are special ids that a pretrained text tokenizer already has, for
    example {"end": 151645}; they lie inside the text range, are no text, and take no row of their own.
    `base`: what else is a pretrained model's (`BaseWords`, or its fields)."""

    text: int = 256
    visual: int = 64
    action: int = 68
    action_slots: int = 11
    orders: tuple[str, ...] = ()
    max_side: int = 64
    merge: int = 0
    appended: tuple[str, ...] | None = None
    named: Mapping[str, int] = field(default_factory=dict, hash=False)
    base: BaseWords | None = None

    def __post_init__(self) -> None:
        tail = self.appended if self.appended is not None else (() if self.orders else DEFAULT_TAIL)
        object.__setattr__(self, "orders", tuple(self.orders))
        object.__setattr__(self, "appended", tuple(tail))
        object.__setattr__(self, "named", dict(self.named))
        if isinstance(self.base, Mapping):
            object.__setattr__(self, "base", BaseWords(**self.base))
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most}, got {getattr(self, name)}")
        self._check_tail()
        self._check_named()

    def _check_tail(self) -> None:
        for name in self.tail:
            if not APPENDED.fullmatch(name):
                raise ValueError(
                    f"appended names {name!r}: use order:NAME, {CONTINUOUS}, {CONTINUOUS}:NAME or reserved:N"
                )
        if len(set(self.order_names)) != len(self.order_names):
            raise ValueError(f"orders must differ from one another, got {self.order_names}")
        if len(set(self.tail)) != len(self.tail):
            raise ValueError(f"appended names must differ from one another, got {self.tail}")

    def _check_named(self) -> None:
        for name, token in self.named.items():
            if name not in CONTROL:
                raise ValueError(f"named has no control word {name!r}: use {', '.join(CONTROL)}")
            if not 0 <= token < self.text:
                raise ValueError(f"named gives {name!r} the id {token}, outside the text 0..{self.text - 1}")
        if len(self.named_ids) != len(self.named):
            raise ValueError(f"named ids must differ from one another, got {dict(self.named)}")

    # Ranges -------------------------------------------------------------------------------------------------

    @property
    def tail(self) -> tuple[str, ...]:
        """Names of the ids after the action range, in the order of their ids."""
        return self.appended or ()

    @cached_property
    def block(self) -> tuple[str, ...]:
        """Names of the ids between text and visual codes: control words, orders, sizes."""
        control = [name for name in CONTROL if name not in self.named]
        orders = [f"order:{name}" for name in self.orders]
        return (*control, *orders, *(f"size:{side}" for side in range(1, self.max_side + 1)))

    @cached_property
    def special(self) -> dict[str, int]:
        """Every special id by name: the control words, `order:NAME`, `size:N`, and those appended."""
        block = {name: self.text + number for number, name in enumerate(self.block)}
        tail = {name: self.action_stop + number for number, name in enumerate(self.tail)}
        return {**self.named, **block, **tail}

    @cached_property
    def names(self) -> dict[int, str]:
        """The inverse of `special`."""
        return {token: name for name, token in self.special.items()}

    @cached_property
    def named_ids(self) -> frozenset[int]:
        """Control ids that lie inside the text range."""
        return frozenset(self.named.values())

    @cached_property
    def header_start(self) -> int:
        """The first id after the control words of the special block; from here on, nothing but actions
        stands outside an image."""
        return self.text + len(CONTROL) - len(self.named)

    @cached_property
    def visual_start(self) -> int:
        return self.text + len(self.block)

    @cached_property
    def action_start(self) -> int:
        return self.visual_start + self.visual

    @cached_property
    def action_stop(self) -> int:
        """Where the appended ids begin."""
        return self.action_start + self.action

    @cached_property
    def size(self) -> int:
        """Number of ids in all."""
        return self.action_stop + len(self.tail)

    @property
    def table_size(self) -> int:
        """Rows of the text head: ids that may be predicted and are no visual codes. Appended ids are not
        among them (they are spelled by a header or stand for values), so that appending one changes no
        distribution."""
        return self.action_stop - self.visual

    @property
    def embedding_size(self) -> int:
        """Rows of the embedding of everything that is not a visual code: those of the text head, then those
        of the appended ids."""
        return self.size - self.visual

    def __getattr__(self, name: str) -> int:
        """Control ids as attributes: `vocabulary.begin`, `vocabulary.user`, ..."""
        if name in CONTROL:
            return self.special[name]
        raise AttributeError(name)

    @cached_property
    def marks(self) -> frozenset[int]:
        """Control ids that take no position of the backbone (`base_words`); none without a `base`."""
        return frozenset(self.special[name] for name in MARKS) if self.base else frozenset()

    @property
    def image(self) -> int:
        """The id of text whose place a feature of a vision tower takes, NONE without one."""
        return self.base.image if self.base else NONE

    # Questions about ids ------------------------------------------------------------------------------------

    def is_text(self, token: int) -> bool:
        """Whether an id is text; control ids and an image placeholder inside the text range are none."""
        return 0 <= token < self.text and token not in self.named_ids and token != self.image

    def is_visual(self, ids: Tensor) -> Tensor:
        return (ids >= self.visual_start) & (ids < self.action_start)

    def is_action(self, ids: Tensor) -> Tensor:
        return (ids >= self.action_start) & (ids < self.action_stop)

    def table_rows(self, ids: Tensor) -> Tensor:
        """Rows of the non-visual table: text and special ids as they are, action and appended ids moved down,
        visual ids 0."""
        rows = ids.where(ids < self.action_start, ids - self.visual)
        return rows.masked_fill(self.is_visual(ids), 0)

    def id_of_row(self, rows: Tensor) -> Tensor:
        """The inverse of `table_rows`."""
        return rows.where(rows < self.visual_start, rows + self.visual)

    def name(self, token: int) -> str:
        """A readable name of one id, for messages and printing."""
        if token < 0 or token >= self.size:
            return f"unknown id {token}"
        if token in self.names:
            return f"<|{self.names[token]}|>"
        if token == self.image:
            return f"<|{FEATURES}|>"
        if token < self.text:
            return f"text {token}"
        if token < self.action_start:
            return f"visual code {token - self.visual_start}"
        return f"action id {token - self.action_start}"

    @cached_property
    def turn_borders(self) -> frozenset[int]:
        """Ids at which what one speaker says begins or ends."""
        return frozenset(self.special[name] for name in (*ROLES, "begin", "end"))

    # Orders and placeholders --------------------------------------------------------------------------------

    @cached_property
    def order_names(self) -> tuple[str, ...]:
        """All orders that a stream can spell, wherever their ids stand."""
        prefix = "order:"
        return (*self.orders, *(name[len(prefix) :] for name in self.tail if name.startswith(prefix)))

    @cached_property
    def order_of_id(self) -> dict[int, str]:
        return {self.special[f"order:{name}"]: name for name in self.order_names}

    @cached_property
    def placeholders(self) -> dict[int, str]:
        """Ids that stand for continuous values, and what they are called: NAME for `continuous:NAME`,
        CONTINUOUS for the one that all values without an id of their own share, FEATURES for the image id of
        a pretrained model."""
        found = [name for name in self.tail if name.split(":")[0] == CONTINUOUS]
        own = {self.special[name]: name.split(":")[-1] for name in found}
        return own if self.image == NONE else {self.image: FEATURES, **own}

    def placeholder(self, name: str) -> int:
        """The id that stands for values of this name: their own, or the shared one. Neither: ValueError."""
        if self.base is not None and name in (FEATURES, PLACES):
            return self.base.placeholder(name)
        token = self.special.get(f"{CONTINUOUS}:{name}", self.special.get(CONTINUOUS))
        if token is None:
            raise ValueError(
                f"the vocabulary has no placeholder for {name}: extend it by {CONTINUOUS!r} "
                f"or '{CONTINUOUS}:{name}'"
            )
        return token

    # Growth -------------------------------------------------------------------------------------------------

    def extended(self, *names: str) -> Vocabulary:
        """This vocabulary with more ids at its end; those it has already stay where they are. Names as in
        `appended`; ValueError for one it has already."""
        return replace(self, appended=(*self.tail, *names))

    def extends(self, other: Vocabulary) -> bool:
        """Whether every id of `other` means the same here."""
        return replace(self, appended=self.tail[: len(other.tail)]) == other

    # Pieces of a stream -------------------------------------------------------------------------------------

    def sizes(self, shapes: Sequence[Shape]) -> list[int]:
        """The ids that spell map sizes: height and width of each."""
        return [self._side(side) for shape in shapes for side in shape]

    def open_write(self, order: str, shapes: Sequence[Shape], data: Sequence[int] = ()) -> list[int]:
        """The header of an image to be written: `write`, the order, the sizes of its maps, and after `part`
        what else the order is given, numbers from 1 to `max_side` spelled as sizes."""
        if order not in self.order_names:
            has = ", ".join(self.order_names)
            raise ValueError(f"order {order!r} is not in the vocabulary; it has {has}")
        header = [self.special["write"], self.special[f"order:{order}"], *self.sizes(shapes)]
        return [*header, self.part, *map(self._side, data)] if data else header

    def read_segment(self, codes: Sequence[int], shapes: Sequence[Shape]) -> list[int]:
        """A whole READ segment from codes counted from 0."""
        return self.read_ids(self.visual_ids(codes), shapes)

    def read_ids(self, ids: Sequence[int], shapes: Sequence[Shape]) -> list[int]:
        """A whole READ segment whose maps hold these ids, codes or placeholders."""
        return [self.special["read"], *self.sizes(shapes), *ids, self.special["close"]]

    def opening(self, role: str, *, first: bool = False) -> list[int]:
        """The ids that open a turn, the `first` of a conversation or a later one; the role's own is the
        last."""
        spelled = self.base.opening(role, first=first) if self.base and self.base.following else ()
        return [*spelled, self.special[role]]

    def visual_ids(self, codes: Sequence[int]) -> list[int]:
        for number, code in enumerate(codes):
            if not 0 <= code < self.visual:
                raise ValueError(f"code {code} at slot {number} is outside 0..{self.visual - 1}")
        return [self.visual_start + int(code) for code in codes]

    def _side(self, side: int) -> int:
        if not 1 <= side <= self.max_side:
            raise ValueError(
                f"a map side of {side} is outside 1..{self.max_side} (max_side of the vocabulary)"
            )
        return self.special[f"size:{side}"]

    def to_dict(self) -> dict[str, object]:
        """As plain data, for JSON."""
        found = {**asdict(self), "orders": list(self.orders), "appended": list(self.tail)}
        if self.base is None:
            del found["base"]  # configurations and hashes of vocabularies without one stay what they are
        return found
