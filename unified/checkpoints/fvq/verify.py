"""FVQ's generated codebook against a golden folder (`python -m unified.checkpoints verify`): both bridges,
stand-ins, the quantiser with gradients, one optimiser step from given and from the published start, learning
rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints.cases import checked
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.fvq import network
from unified.checkpoints.llamagen_losses import RECENT, record_ids, usage
from unified.checkpoints.state_dict import load_strict

INPUTS = ("z", "target")
MOVED = 1e-6
FORMS = ("lin", "cos", "const")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds a generated codebook."""
    return config.get("case") == "fvq"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def _checks(folder: Path) -> Iterator[Check]:
    config, stored = read_config(folder), read_io(folder)
    state = read_state(folder, config)
    own = [name for name in state if name.split(".")[0] not in ("init", "linear", "mlp5", "dit")]
    sizes = network.config_of(config, state)
    table, bridge = _built(sizes, {name: state[name] for name in own})
    made = bridge.generate(table.weight)
    computed = {
        "grid": made.grid.clone(),  # a view of the table, which a step changes
        "tokens": made.tokens,
        "final": made.final,
        "grid_out": made.grid_out,
        "codebook": made.codebook,
        **{f"block{number}_out": out for number, out in enumerate(made.blocks)},
        **_step(table, bridge, stored, config["beta"]),
        **_start(sizes, _part(state, "init."), stored, config["beta"]),
        **_variants(sizes, state),
        **_rates(config["lr"]),
    }
    detached = {name: value.detach() for name, value in computed.items()}
    yield from compare(stored, detached, INPUTS.__contains__, _tolerance)
    name = "init.codebook_after_adam_step"
    zeros = bool(torch.equal(detached[name] == 0, stored[name] == 0))
    yield Check(f"{name} == 0", zeros, "the same codes are zero" if zeros else "other codes are zero")


def _tolerance(name: str) -> Tolerance:
    if name.endswith("after_adam_step"):
        return Tolerance(1e-3)
    if "grad." in name:
        return Tolerance(1e-6, 1e-3)
    return Tolerance(1e-12 if name.startswith("lr.") or name.endswith("usage") else 1e-5)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


class _Quantizer(nn.Module):
    """The published names: a table beside its bridge."""

    def __init__(self, config: network.BridgeConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.codes, config.dim)
        self.qbridge = network.Bridge(config)


def _built(config: network.BridgeConfig, state: Mapping[str, Tensor]) -> tuple[nn.Embedding, network.Bridge]:
    module = _Quantizer(config)
    load_strict(module, state)
    return module.embedding, module.qbridge


def _trained(
    table: nn.Embedding, bridge: network.Bridge, stored: Mapping[str, Tensor], beta: float
) -> dict[str, Tensor]:
    """One training pass; gradients are left in the modules, and in `grad.z`."""
    z = stored["z"].clone().requires_grad_()
    quantised = network.quantise(z, bridge(table.weight), beta)
    reconstruction = (quantised.output - stored["target"]).square().mean()
    total = reconstruction + quantised.vq_loss + quantised.commit_loss
    total.backward()
    codes = table.num_embeddings
    recent = torch.zeros(codes + 1 if codes >= RECENT else RECENT)
    share = usage(record_ids(recent, quantised.ids), codes)
    return {
        "ids": quantised.ids,
        "quant": quantised.output,
        "vq_loss": quantised.vq_loss,
        "commit_loss": quantised.commit_loss,
        "rec": reconstruction,
        "total": total,
        "usage": torch.tensor(share, dtype=torch.float64),
        **({} if z.grad is None else {"grad.z": z.grad}),
    }


def _gradients(table: nn.Embedding, bridge: network.Bridge) -> dict[str, Tensor]:
    parameters = {"embedding.weight": table.weight}
    parameters |= {f"qbridge.{name}": value for name, value in bridge.named_parameters()}
    return {name: value.grad for name, value in parameters.items() if value.grad is not None}


def _adam(table: nn.Embedding, bridge: network.Bridge) -> Tensor:
    """The codebook after one step of Adam on all parameters."""
    parameters = [*table.parameters(), *bridge.parameters()]
    torch.optim.Adam(parameters, lr=1e-2, betas=(0.9, 0.95), eps=1e-8).step()
    with torch.no_grad():
        return bridge(table.weight)


def _step(
    table: nn.Embedding, bridge: network.Bridge, stored: Mapping[str, Tensor], beta: float
) -> dict[str, Tensor]:
    found = _trained(table, bridge, stored, beta)
    gradients = {f"grad.{name}": value.clone() for name, value in _gradients(table, bridge).items()}
    rows = gradients["grad.embedding.weight"].abs().sum(dim=1)
    with torch.no_grad():
        before = bridge(table.weight)
        again = network.quantise(stored["z"], before, beta)
        shape = (stored["z"].shape[2], stored["z"].shape[3])
        after = _adam(table, bridge)
    moved = (after - before).abs().amax(dim=1) > MOVED
    return {
        **found,
        **gradients,
        "grad_rows_nonzero": (rows > 0).sum(),
        "used_codes": found["ids"].unique(),
        "eval.ids": again.ids,
        "eval.quant": again.output,
        "entry": network.entries(found["ids"], before, shape),
        "codebook_after_adam_step": after,
        "rows_moved": moved.sum(),
    }


def _start(
    config: network.BridgeConfig, state: Mapping[str, Tensor], stored: Mapping[str, Tensor], beta: float
) -> dict[str, Tensor]:
    """From the published initialisation."""
    table, bridge = _built(config, state)
    found = {"codebook": bridge(table.weight), **_trained(table, bridge, stored, beta)}
    gradients = _gradients(table, bridge)
    found |= {
        "grad.embedding.weight": gradients["embedding.weight"].clone(),
        "grad.final_layer.linear.weight": gradients["qbridge.final_layer.linear.weight"].clone(),
        "codebook_after_adam_step": _adam(table, bridge),
    }
    return {f"init.{name}": value for name, value in found.items()}


@torch.no_grad()
def _variants(config: network.BridgeConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    modules = {
        "linear": network.LinearMap(config.dim),
        "mlp5": network.ReLUMap(config.dim),
        "dit": network.ModulatedBridge(config),
    }
    found = {}
    for name, module in modules.items():
        load_strict(module, _part(state, f"{name}."))
        found[f"{name}.codebook"] = module(state["embedding.weight"])
    return found


def _rates(options: Mapping[str, Any]) -> dict[str, Tensor]:
    each = options["steps_per_epoch"]
    steps, warmup = options["epochs"] * each, options["warmup_epochs"] * each
    return {
        f"lr.{form}": torch.tensor(
            [network.annealed(step, steps, warmup, form=form, hold=options["T"]) for step in range(steps)],
            dtype=torch.float64,
        )
        for form in FORMS
    }
