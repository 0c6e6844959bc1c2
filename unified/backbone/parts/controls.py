"""What an image is written under besides its stream: a control map (edges, depth, a layout), slot by slot.

A control is features [B, T, C] of the T slots of a plan, such as those of a control image at every map
(`Plan.at_slots`). Parts that read one are built once and trained; `reading` gives what a session or a batch
is handed, with the control in it. Rows after the first B (null rows of guidance) have the control of their
conversation, so that guidance amplifies what else is asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unified.backbone.layer_pass import Pass
from unified.backbone.parts.steps import steps_of
from unified.orders import Plan


def check_control(control: Tensor, plan: Plan, width: int) -> None:
    """ValueError unless features [B, T, C] fit the slots of a plan and this width."""
    if control.ndim != 3 or tuple(control.shape[1:]) != (plan.length, width):
        raise ValueError(
            f"a control must have shape [rows, {plan.length}, {width}], got {tuple(control.shape)}"
        )


def slots_of(run: Pass) -> Tensor:
    """[R, n] long: the slot of its plan that each position of a pass writes, of several (patch merging) the
    first, -1 where it writes none."""
    steps = steps_of(run)
    if run.step >= 0 and run.plan is not None:
        own = run.plan.steps[run.step].run if run.slots is None else run.slots
        own = own.to(steps.device)
        if not len(own):
            return torch.full_like(steps, -1)
        place = ((steps >= 0).long().cumsum(dim=1) - 1).clamp(min=0, max=len(own) - 1)
        return torch.where(steps >= 0, own[place], -1)
    if run.append is not None:
        return steps
    if run.layout is None:
        assert run.plan is not None  # or `steps_of` would have refused it
        return run.plan.slots.to(steps.device).expand(len(steps), -1)
    found = torch.full_like(run.layout.step, -1)
    for group in run.layout.writes:
        found[group.rows[:, None], group.slots()] = group.plan.slots.to(found.device)
    return run.layout.at_positions(found)


def rows_of(count: int, given: int, run: Pass) -> Tensor:
    """[count]: which of the `given` rows of a control each row of a pass has. ValueError for a batch of
    another number of rows."""
    if run.append is None and count != given:
        raise ValueError(f"a control was given for {given} rows, but the batch has {count}")
    return (torch.arange(count) + (run.rows.start or 0)) % given


def at_slots(control: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """Features [B, T, C] at the slots [R, n] of some rows [R] -> [R, n, C]; those of slot -1 mean nothing."""
    places = slots.clamp(min=0).to(control.device)
    return control[rows.to(control.device)[:, None], places]
