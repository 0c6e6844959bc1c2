"""Import names of the last release, with a DeprecationWarning that names the new one.

`import unified.session` gives a module that looks its names up in `unified.decoding.session`. Where a module
became a package of the same name (`unified.layout`), the package looks its former names up here. Nothing is
imported before it is asked for.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_COMMANDS = ("chat", "common", "evaluate", "info", "script", "verbs")
MODULES: dict[str, tuple[str, ...]] = {  # the former module: where its names are looked up, in this order
    "unified.alike": ("unified.decoding.minimum_risk",),
    "unified.answering": ("unified.apps.answering",),
    "unified.assistant": ("unified.apps.assistant", "unified.apps.settings", "unified.apps.answering"),
    "unified.attention": ("unified.layout.attention", "unified.backbone.attention"),
    "unified.backbones": ("unified.pretrained_backbone",),
    "unified.commands": ("unified.apps.commands",),
    **{f"unified.commands.{name}": (f"unified.apps.commands.{name}",) for name in _COMMANDS},
    "unified.context": ("unified.decoding.context", "unified.cache.policy"),
    "unified.conversation": ("unified.apps.conversation",),
    "unified.demo": ("unified.apps.demo",),
    "unified.drawing": ("unified.decoding.drawing", "unified.extras.references"),
    "unified.editing": ("unified.decoding.editing",),
    "unified.folding": ("unified.layout.patch_merging", "unified.extras.patch_merging"),
    "unified.fused": ("unified.backbone.fused",),
    "unified.guidance": ("unified.decoding.guidance",),
    "unified.looking": ("unified.apps.looking",),
    "unified.pictures": ("unified.apps.pictures",),
    "unified.processor": ("unified.stream.processor",),
    "unified.redrawing": ("unified.apps.best_of_n",),
    "unified.rollout": ("unified.apps.rollout",),
    "unified.sampling": ("unified.decoding.sampling", "unified.decoding.noise"),
    "unified.schedules": ("unified.tokenizers.schedules",),
    "unified.segments": ("unified.stream.segments",),
    "unified.session": ("unified.decoding.session",),
    "unified.slots": ("unified.extras.slots", "unified.extras.writer", "unified.extras.own_state"),
    "unified.terminal": ("unified.apps.terminal",),
    "unified.transition": ("unified.extras.transition",),
    "unified.vocabulary": ("unified.stream.vocabulary", "unified.orders.shapes"),
}
RENAMED: dict[str, dict[str, str]] = {  # names of a former module that have another one now
    "unified.alike": {"Alike": "MinimumRisk", "alike_codes": "minimum_risk_decoding"},
    "unified.answering": {
        "Manner": "GenerationSettings",
        "LIKELIEST": "GREEDY",
        "Said": "TextIds",
        "Step": "ImageStep",
        "Drew": "ImageDone",
    },
    "unified.assistant": {"Manner": "GenerationSettings", "LIKELIEST": "GREEDY"},
    "unified.attention": {"Pieces": "pieces", "attend_by_block": "by_block", "attend_by_sample": "by_sample"},
    "unified.drawing": {"Contrast": "ActionContrast"},
    "unified.folding": {
        "Folding": "MergedLayout",
        "Fold": "PatchMerging",
        "FoldedStep": "MergedStep",
        "folded_steps": "merged_steps",
    },
    "unified.fused": {"FusedDecoder": "FusedLayers"},
    "unified.redrawing": {"Shown": "Contents", "said": "described", "drawn_again": "best_of_n"},
}
PACKAGES: dict[str, dict[str, str]] = {  # former modules that are packages now: where their names went
    "unified.cache": {"KVCache": "kv_cache"},
    "unified.layout": dict.fromkeys(("IGNORED", "Cursor", "Layout", "WriteGroup", "pack"), "layout"),
    "unified.stream": dict.fromkeys(("Message", "Stream", "TextTokenizer"), "messages"),
}


def former(package: str, name: str) -> Any:
    """What `name` of a former module is, whose place the package took. AttributeError for other names."""
    if name not in PACKAGES[package]:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module = f"{package}.{PACKAGES[package][name]}"
    _warn(f"{package}.{name}", f"{module}.{name}")
    value = getattr(importlib.import_module(module), name)
    setattr(sys.modules[package], name, value)
    return value


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is {new} now; the former name will go", DeprecationWarning, stacklevel=3)


class _Moved(ModuleType):
    """A former module; its names are those of its successors."""

    def __getattr__(self, name: str) -> Any:
        module = self.__name__
        if name == "__all__":
            return [public for public in dir(self) if not public.startswith("_")]
        if not name.startswith("__"):
            now = RENAMED.get(module, {}).get(name, name)
            for successor in map(importlib.import_module, MODULES[module]):
                if hasattr(successor, now):
                    return getattr(successor, now)
        raise AttributeError(f"module {module!r} has no attribute {name!r}; see {MODULES[module][0]}")

    def __dir__(self) -> list[str]:
        successors = map(importlib.import_module, MODULES[self.__name__])
        names = {name for successor in successors for name in vars(successor) if not name.startswith("_")}
        return sorted(names.union(RENAMED.get(self.__name__, {})))


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if name not in MODULES:
            return None
        return ModuleSpec(name, self, is_package=any(other.startswith(name + ".") for other in MODULES))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Moved(spec.name, f"Former name of `{MODULES[spec.name][0]}`.")

    def exec_module(self, module: ModuleType) -> None:
        _warn(module.__name__, MODULES[module.__name__][0])


def register() -> None:
    """Makes the former names importable; registering again changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # First: a folder that an older checkout left behind, with compiled files alone, is a namespace too.
        sys.meta_path.insert(0, _Finder())
