"""Golden folders of SemAIM (`semaim`): maps, orders and masks, a two-stream training pass with its gradients,
and losses. Tolerances are those recommended there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.semaim import losses, orders
from unified.checkpoints.semaim.network import SemAIM, load
from unified.checkpoints.state_dict import read_weights
from unified.checkpoints.transformer_verify import needed
from unified.orders.shapes import Shape

INPUT = re.compile(
    r"image|perm\..+\.uniform\d+|train\.uniform|(train\.)?teacher_tokens|l1\.(pred|image|uniform)"
)
ROWS = [0, 1, 50, 195]  # of the tokens whose states are stored
NEEDED = ("attention_type", "gaussian_kernel_size", "gaussian_sigma", "boxes", "predict_feature")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this network."""
    return config.get("case") == "semaim"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder, needed=NEEDED), read_io(folder)
    model = load(config, read_weights(Path(folder) / "weights.safetensors"))
    computed = _maps(model, config, needed(stored, "image"))
    computed |= _orders(model.config.grid, config, stored, computed["feature_attention"])
    computed |= _trained(model, config, stored, computed["feature_attention"])
    yield from compare(stored, computed, lambda name: INPUT.fullmatch(name) is not None, _tolerance)


def _tolerance(name: str) -> Tolerance:
    if name.startswith("perm.") or name == "train.permutation":
        return Tolerance(1e-6)
    return Tolerance(1e-5 if ".grad." in name else 1e-4)


@torch.no_grad()
def _maps(model: SemAIM, config: Mapping[str, Any], images: Tensor) -> dict[str, Tensor]:
    tokens, looked = model.encode(images)
    found = {
        "attention_cls": orders.class_map(tokens),
        "attention_gap": orders.mean_map(tokens),
        "self_attention": looked,
    }
    kinds = {"cls": "attention_cls", "gap": "attention_gap", "self": "self_attention"}
    kind = next(
        (value for key, value in kinds.items() if str(config["attention_type"]).startswith(key)), None
    )
    if kind is None:
        known = ", ".join(kinds)
        raise ValueError(f"attention_type must be one of {known}, got {config['attention_type']!r}")
    more = {"enc_tokens": tokens, "teacher_similarity": orders.teacher_map(tokens)}
    return {**found, **more, "feature_attention": found[kind]}


# Orders and masks -------------------------------------------------------------------------------------------


def _orders(
    grid: Shape, config: Mapping[str, Any], stored: Mapping[str, Tensor], mapped: Tensor
) -> dict[str, Tensor]:
    """Every order that is stored, and who sees whom under it."""
    found: dict[str, Tensor] = {}
    for name in [key for key in stored if re.fullmatch(r"perm\.[^.]+", key)]:
        order = _order(name, grid, config, stored, mapped)
        if order is None:
            continue
        found[name] = order.expand(len(mapped), -1)
        content, query = orders.masks(found[name])
        found[f"{name}.visible_counts"] = torch.stack([content.sum(dim=2), query.sum(dim=2)])
        found[f"{name}.content_visible"] = content.to(torch.uint8)
        found[f"{name}.query_visible"] = query.to(torch.uint8)
    return found


def _order(
    name: str, grid: Shape, config: Mapping[str, Any], stored: Mapping[str, Tensor], mapped: Tensor
) -> Tensor | None:
    """One order; None for an unknown name."""

    def drawn(number: int = 0) -> Tensor:
        return needed(stored, f"{name}.uniform{number}")

    kind = name.removeprefix("perm.")
    if kind == "attention_center":
        return orders.rings(mapped, grid, drawn())
    if kind == "attention":
        return orders.by_map(mapped)
    if kind == "stochastic":
        return drawn()
    if kind == "center2out":
        return orders.centre_out(drawn())
    if kind == "attention_guided":
        centre = mapped.argmax(dim=1)
        return orders.boxes_around(drawn(), centre // grid[1], centre % grid[1], config["boxes"])
    if kind == "stochastic_center":
        rows, columns = (((side - 1) * drawn(n)).long() for n, side in enumerate(grid, 1))
        return orders.boxes_around(drawn(), rows, columns, config["boxes"])
    known = {"zigzag": orders.row_by_row, "raster": orders.snake}
    return known[kind](grid) if kind in known else None


# Training pass ----------------------------------------------------------------------------------------------


def _trained(
    model: SemAIM, config: Mapping[str, Any], stored: Mapping[str, Tensor], mapped: Tensor
) -> dict[str, Tensor]:
    """Both streams, their loss and its gradients."""
    images = stored["image"]
    order = orders.rings(mapped, model.config.grid, needed(stored, "train.uniform"))
    kernel = None
    if config["predict_feature"] == "none":  # features of a teacher are those of the image as it is
        kernel = losses.gaussian(config["gaussian_kernel_size"], config["gaussian_sigma"])
    blurred = images if kernel is None else losses.blurred(images, kernel)
    made = model(images, order)
    by_patch = _loss(model, config, stored, made.predicted[:, 1:], blurred)
    loss = by_patch.mean()
    loss.backward()
    rows = {f"content{n}_rows": state[:, ROWS] for n, state in enumerate(made.content)}
    rows |= {f"query{n}_rows": state[:, ROWS] for n, state in enumerate(made.query)}
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = {"permutation": order, "pred": made.predicted, "loss": loss}
    found |= {"loss_map": by_patch, **rows, **gradients}
    found = {f"train.{name}": value.detach() for name, value in found.items()}
    last = gradients.get(f"grad.blocks.{len(model.blocks) - 1}.attn.qkv.weight")
    flag = torch.tensor(int(last is not None and bool(last.any())))
    found["content_last_block_has_grad"] = flag
    if kernel is not None:
        found |= {"blur_kernel": kernel, "train.blurred": blurred}
    return found | _absolute(model, stored, found["train.pred"])


def _loss(
    model: SemAIM, config: Mapping[str, Any], stored: Mapping[str, Tensor], predicted: Tensor, blurred: Tensor
) -> Tensor:
    """[B, L], of features where the config names a teacher, else of pixels."""
    if config["predict_feature"] != "none":
        name = "train.teacher_tokens" if "train.teacher_tokens" in stored else "teacher_tokens"
        return losses.feature_loss(predicted, needed(stored, name)[:, 1:])
    targets = losses.patches(blurred, model.config.patch)
    targets = losses.normalised(targets) if config.get("norm_pix_loss", False) else targets
    return losses.pixel_loss(predicted, targets, absolute=config.get("loss_type", "L2") == "L1")


def _absolute(model: SemAIM, stored: Mapping[str, Tensor], predicted: Tensor) -> dict[str, Tensor]:
    """`l1.*`: the absolute error of the plain image's pixels."""
    predicted, side = stored.get("l1.pred", predicted), model.config.patch
    if predicted.shape[-1] != 3 * side**2:
        return {}
    tokens = predicted[:, -(model.config.grid[0] * model.config.grid[1]) :]
    by_patch = losses.pixel_loss(tokens, losses.patches(stored["image"], side), absolute=True)
    return {"l1.loss": by_patch.mean(), "l1.loss_map": by_patch}
