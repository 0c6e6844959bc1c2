"""The Auto classes of `transformers` know our models: with nothing imported before a model is asked for.

When `transformers` makes its table of configurations, or now if it has, the `model_type` "unified" gets an
entry that imports `unified.hugging_face.auto` on its first use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

TABLE = "transformers.models.auto.configuration_auto"


class ConfigOnDemand:
    """Stands for `UnifiedConfig` in the library's table until a configuration is made."""

    model_type = "unified"

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        return _config_class()(*arguments, **options)

    @classmethod
    def from_dict(cls, *arguments: Any, **options: Any) -> Any:
        return _config_class().from_dict(*arguments, **options)

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        return _config_class().from_pretrained(*arguments, **options)


def _config_class() -> Any:
    return importlib.import_module("unified.hugging_face.auto").UnifiedConfig


class _AfterTable(MetaPathFinder):
    """Adds the entry once the library's table has been made."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != TABLE:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _add_entry(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _add_entry(table: Any) -> None:
    if ConfigOnDemand.model_type not in table.CONFIG_MAPPING:
        table.CONFIG_MAPPING.register(ConfigOnDemand.model_type, ConfigOnDemand)


def register_auto_classes() -> None:
    """Registering again changes nothing."""
    if TABLE in sys.modules:
        _add_entry(sys.modules[TABLE])
    elif not any(isinstance(finder, _AfterTable) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterTable())
