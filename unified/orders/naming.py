"""Names of orders with parameters: `raster`, or `raster(axis='columns')`. The values are Python literals.

A stream spells the name of an image's order, so the name alone must determine the plan.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

FORM = "an order is named like raster or raster(axis='columns')"


def parsed(name: str) -> tuple[str, dict[str, Any]]:
    """The bare name and the parameters. ValueError for anything but keywords with literals."""
    try:
        node = ast.parse(name, mode="eval").body
    except SyntaxError:
        raise ValueError(f"unknown order {name!r}: {FORM}") from None
    match node:
        case ast.Name(id=bare):
            return bare, {}
        case ast.Call(func=ast.Name(id=bare), args=[], keywords=keywords):
            return bare, {str(keyword.arg): _literal(keyword, name) for keyword in keywords}
    raise ValueError(f"unknown order {name!r}: {FORM}")


def _literal(keyword: ast.keyword, name: str) -> Any:
    try:
        return ast.literal_eval(keyword.value)
    except ValueError:
        raise ValueError(f"order {name!r}: the value of {keyword.arg} is not a Python literal") from None


def check_parameters(name: str, order: Callable[..., Any], given: dict[str, Any]) -> None:
    """ValueError for a parameter that the order does not take, or needs and is not given."""
    known = list(inspect.signature(order).parameters.values())[1:]  # the first one is the map sizes
    names = [parameter.name for parameter in known]
    for word in given:
        if word not in names:
            takes = ", ".join(names) or "no parameters"
            raise ValueError(f"the order {name} has no parameter {word!r}: it takes {takes}")
    for parameter in known:
        if parameter.default is parameter.empty and parameter.name not in given:
            raise ValueError(f"the order {name} needs a value for its parameter {parameter.name!r}")
