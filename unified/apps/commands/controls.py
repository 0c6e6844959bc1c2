"""control and upscale: drawing under a picture, with a trained adapter."""

from __future__ import annotations

import argparse
from typing import Any

from unified.apps.assistant import Assistant
from unified.apps.commands.common import check_picture, given, with_adapters, words, write_picture
from unified.apps.pictures import open_picture


def control(options: argparse.Namespace) -> int:
    prompt, out = words(options.prompt, "the prompt"), check_picture(options.out)
    shown = open_picture(options.edges or options.condition).image
    chosen: dict[str, Any] = given(options, "guidance", "temperature", "tries")
    image: Any = _own(options).control(prompt, shown, edges=options.edges is not None, **chosen)
    return write_picture(options, image, out)


def upscale(options: argparse.Namespace) -> int:
    out, picture = check_picture(options.out), open_picture(options.image).image
    chosen: dict[str, Any] = given(options, "guidance", "temperature")
    image: Any = _own(options).upscale(picture, options.to, **chosen)
    return write_picture(options, image, out)


def _own(options: argparse.Namespace) -> Assistant:
    model = with_adapters(options)
    if not isinstance(model, Assistant):
        raise ValueError(
            f"{options.command} is for models in this project's own form, not for {model.folder}"
        )
    return model
