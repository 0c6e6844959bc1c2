"""What was given for the rows of a batch or session, for the rows that a pass runs."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from unified.backbone.layer_pass import Pass


def of_pass(given: Tensor, count: int, run: Pass) -> Tensor:
    """given [B, ...] for every row of a batch or session -> [count, ...] for those that a pass runs. Rows
    after the first B are null rows of guidance: zeros. ValueError for a batch of another number of rows."""
    if run.append is None and count != len(given):
        raise ValueError(f"a part was given something for {len(given)} rows, but the batch has {count}")
    start = run.rows.start or 0
    rows = given[start : start + count]
    missing = count - len(rows)
    return pad(rows, (*[0] * (2 * given.ndim - 1), missing)) if missing else rows
