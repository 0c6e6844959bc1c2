"""Which entries stay."""

import numpy as np
import pytest
import torch

from unified.cache.policy import DropWrite, Full, Held, Window
from unified.layout.attention import Index
from unified.stream.segments import Kind

TEXT, READ, WRITE = Kind.TEXT, Kind.READ, Kind.WRITE


def held(*rows):
    """Rows of (kinds, segments)."""
    lengths = np.array([len(kinds) for kinds, _ in rows])
    most = lengths.max()
    kind, segment = (
        torch.tensor([[*row[part], *[0] * (most - len(row[part]))] for row in rows]) for part in (0, 1)
    )
    zero = torch.zeros_like(kind)
    return Held(Index(zero, segment, kind, zero), lengths)


def kept(policy, *rows):
    stays = policy.stays(held(*rows))
    return None if stays is None else [row.nonzero()[0].tolist() for row in stays]


def test_written_images_stay_or_go():
    mixed = [TEXT, WRITE, WRITE, READ, READ, TEXT], [0, 1, 1, 2, 2, 3]
    assert kept(Full(), mixed) is None
    assert kept(DropWrite(), mixed) == [[0, 3, 4, 5]]
    assert kept(DropWrite(), ([TEXT, READ], [0, 1])) is None


def test_a_window_keeps_whole_segments():
    long = [TEXT] * 2 + [READ] * 6, [0, 0, 1, 1, 2, 2, 3, 3]
    assert kept(Window(8, keep=1), long) is None
    assert kept(Window(5, keep=1), long) == [[0, 4, 5, 6, 7]]
    assert kept(Window(4, keep=1), long) == [[0, 6, 7]], "half a segment goes as a whole"
    with pytest.raises(ValueError, match="cannot keep the first 4"):
        Window(4, keep=4)


def test_a_window_counts_each_row_by_itself():
    long = [TEXT] * 2 + [READ] * 6, [0, 0, 1, 1, 2, 2, 3, 3]
    short = [TEXT] * 3, [0, 1, 2]
    assert kept(Window(5, keep=1), long, short)[1][:3] == [0, 1, 2]
