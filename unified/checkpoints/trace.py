"""Outputs of the layers of a network, recorded while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor, nn


class Trace:
    """`with Trace({"name": module}) as trace:` keeps in `trace.found` what each module gave last; where a
    module runs several times and `first` is true, what it gave first."""

    def __init__(self, layers: Mapping[str, nn.Module], first: bool = False) -> None:
        self.layers, self.first = layers, first
        self.found: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        self._handles = [layer.register_forward_hook(self._keep(name)) for name, layer in self.layers.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            if not (self.first and name in self.found):
                self.found[name] = output

        return hook
