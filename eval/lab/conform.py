"""The conformance suite: what must hold for every part, on a tiny random model, for parts of one's own too.

A part is named as it is registered (`raster`, `scalekv`, `variant`) or as `module:NAME`, a function or
class that is imported. Orders: no prediction sees a code of its own or a later step (float64, exact), and
codes drawn step by step have the likelihood of one pass. Cache and depth policies, as their defaults make
them: the same drawings as without, and each row of a batch as it is alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from unified.eval.check import Check
from unified.eval.lab.ground.bases import rows
from unified.eval.lab.taxonomy import tiny
from unified.eval.tokenizer_conform import named_checks
from unified.tokenizers.kinds import KINDS as VISUAL

from unified.cache.policy import POLICIES
from unified.config import UnifiedConfig, text_decoder
from unified.decoding.session import Session
from unified.depth import DEPTHS
from unified.model import UnifiedModel
from unified.orders import ORDERS, made, takes_schedule
from unified.orders.plan import Plan
from unified.stream.vocabulary import Vocabulary

CACHED = 1e-4  # nats between cached and full log-probabilities
CODES = 16
PROMPT = (3, 5)
TOKENIZER = "tokenizer:"
KINDS: dict[str, dict[str, Any]] = {"order": ORDERS, "cache": POLICIES, "depth": DEPTHS}


def conform(names: Sequence[str]) -> int:
    """Print the checks of these parts, of all that are registered if none is named; how many failed."""
    chosen = names or [
        *(name for registered in KINDS.values() for name in registered),
        *(f"{TOKENIZER}{kind}" for kind in VISUAL),
    ]
    failed = 0
    for name in chosen:
        for check in checks(name):
            print(check, flush=True)
            failed += not check.ok
    return failed


def checks(name: str) -> Iterator[Check]:
    """ValueError for a part that is not known, or is of no known kind."""
    if name.startswith(TOKENIZER):
        yield from named_checks(name.removeprefix(TOKENIZER))
        return
    with _registered(name) as (kind, short):
        if kind == "order":
            yield from order_checks(short)
        else:
            yield neutral(kind, short)


@contextmanager
def _registered(name: str) -> Iterator[tuple[str, str]]:
    """The kind of a part and the name it is registered by; one of one's own is registered meanwhile."""
    if ":" not in name:
        kinds = [kind for kind, registered in KINDS.items() if name in registered]
        if not kinds:
            known = ", ".join(name for registered in KINDS.values() for name in registered)
            raise ValueError(f"no part is called {name!r}: give module:NAME, or one of {known}")
        yield kinds[0], name
        return
    module, _, attribute = name.partition(":")
    try:
        part = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from None
    kind, short = _kind(name, part), attribute.lower()
    if short in KINDS[kind]:
        raise ValueError(f"{name}: a part is registered as {short!r} already")
    KINDS[kind][short] = part
    try:
        yield kind, short
    finally:
        del KINDS[kind][short]
        made.cache_clear()
        takes_schedule.cache_clear()


def _kind(name: str, part: Any) -> str:
    for kind, method in (("cache", "stays"), ("depth", "runs")):
        if hasattr(part, method):
            return kind
    if callable(part) and not isinstance(part, type):
        return "order"
    raise ValueError(f"{name} is neither a function from map sizes to a plan nor a policy of cache or depth")


def tiny_model(order: str, heads: int) -> UnifiedModel:
    """Random weights, large enough that what leaks shows."""
    words = Vocabulary(text=8, visual=CODES, action=0, max_side=8, orders=(order,), appended=())
    torch.manual_seed(0)
    backbone = text_decoder(width=32, layers=2, heads=2, kv_heads=2)
    config = UnifiedConfig(vocabulary=words.to_dict(), backbone=backbone, read_outs=heads)
    model = UnifiedModel(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def order_checks(name: str) -> Iterator[Check]:
    """Leak and cache of an order."""
    plan = tiny(name)
    model = tiny_model(name, plan.heads)
    leaks = leak(model.double(), name, plan)
    yield Check(name, "no prediction sees its own or a later step", leaks == 0, f"largest change {leaks:g}")
    error = cache(model.float(), name, plan)
    yield Check(name, "cached likelihoods equal one pass", error <= CACHED, f"{error:.2g} nats")


@torch.no_grad()
def leak(model: UnifiedModel, name: str, plan: Plan) -> float:
    """The largest change of a log-probability, over all codes that are replaced one by one."""
    codes = torch.randint(CODES, (plan.length,), generator=torch.Generator().manual_seed(2))
    changed = (codes + torch.eye(plan.length, dtype=torch.long)) % CODES  # row j has another code at slot j
    found = _log_probs(model, name, plan, torch.cat([codes[None], changed]))
    difference = (found[1:] - found[0]).abs()
    earlier = plan.labels[None] <= plan.labels[:, None]  # slot j replaced, slot i predicted
    earlier &= ~torch.eye(plan.length, dtype=torch.bool)
    return float(difference[earlier].max()) if earlier.any() else 0.0


def _log_probs(model: UnifiedModel, name: str, plan: Plan, codes: Tensor) -> Tensor:
    """[N, T] of codes [N, T]; row by row, so that a product's rounding is that of the same shapes."""
    found = []
    for line in codes:
        batch = rows(model.vocabulary, None, line[None], name, plan.shapes, plan.data)
        scored = model(batch.ids, labels=batch.labels, layout=batch.layout, return_logits=False).log_probs
        found.append(scored[0, batch.labels[0] >= 0])
    return torch.stack(found)


def _drawn(model: UnifiedModel, name: str, plan: Plan, **parts: Any) -> Session:
    session = Session(model, rows=2, seed=3, **parts)
    words = model.vocabulary
    session.feed([words.begin, words.user, words.end, words.assistant])
    session.draw(plan.shapes, order=name, data=plan.data)
    return session


@torch.no_grad()
def cache(model: UnifiedModel, name: str, plan: Plan) -> float:
    """The largest difference of log-probabilities as they were drawn from those of one pass."""
    drawing = _drawn(model, name, plan).drawing
    return float((_log_probs(model, name, plan, drawing.codes) - drawing.log_probs).abs().max())


def neutral(kind: str, name: str) -> Check:
    """As its defaults make it, a policy changes nothing."""
    plan, model = tiny("next_scale"), tiny_model("next_scale", 1)
    build: Callable[..., Any] = KINDS[kind][name]
    try:
        part = build()
    except TypeError as error:
        raise ValueError(f"{name} has no defaults to check: {error}") from None
    option = {"cache": "policy", "depth": "depth"}[kind]
    plain = _drawn(model, "next_scale", plan).drawing
    other = _drawn(model, "next_scale", plan, **{option: part}).drawing
    same = torch.equal(plain.codes, other.codes) and torch.equal(plain.log_probs, other.log_probs)
    return Check(name, f"a {kind} policy with its defaults changes nothing, bit for bit", same)
