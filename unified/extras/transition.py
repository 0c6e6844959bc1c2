"""What the reference image turns into under the actions since: convolutions over its codes' embeddings.

With `words` it follows what is said, too, and every image follows from the one before it: a sketch that a
local rule makes of the sketch before, such as filling the dead ends of a maze (`tasks.mazes.filling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from unified.extras.extra import Extra
from unified.extras.references import References

BLOCKS = 6  # each looks one code further: a turn moves what is seen by several


@dataclass(frozen=True, kw_only=True)
class TransitionConfig:
    """`channels` of the convolutions. `words`: what the turn says since the reference image steers them as
    actions do, and images after which nothing was done or said change too."""

    channels: int = 32
    words: bool = False

    def __post_init__(self) -> None:
        if type(self.channels) is not int or self.channels < 1:
            raise ValueError(f"channels must be a whole number of at least 1, got {self.channels!r}")
        if type(self.words) is not bool:
            raise ValueError(f"words must be true or false, got {self.words!r}")


class Transition(nn.Module, Extra):
    """Replaces the reference image by what it should be after the actions since. A frame that follows from a
    frame is a local function of it, the same everywhere, which convolutions learn from far fewer frames than
    attention does. It starts as the identity; images after which nothing was done stay as they are."""

    reads_reference = False  # it changes the reference image for those that do
    needs = ("reference", "copy_gate")

    def __init__(self, config: TransitionConfig, width: int) -> None:
        super().__init__()
        channels, self.words = config.channels, config.words
        self.entry = nn.Linear(width, channels)
        self.place = nn.Linear(5, channels, bias=False)
        self.action = nn.Linear(width, channels)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(BLOCKS))
        self.exit = nn.Linear(channels, width, bias=False)

    @property
    def channels(self) -> int:
        return self.entry.out_features

    @property
    def reads_words(self) -> bool:
        return self.words

    def initialise(self, std: float) -> None:
        """First weights: kernels that keep the size of what they read, and the identity in all."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
        nn.init.zeros_(self.exit.weight)

    @torch.no_grad()
    def grow(self, other: Transition) -> None:
        """Take over the weights of one with fewer channels, in place. The new channels start low, and
        nothing reads them but the norms: beside those it does what the other does."""
        count, hidden = other.channels, self.channels
        loud = (count / hidden) ** 0.5  # of values among silent ones a norm makes so much less
        for (name, own), given in zip(self.named_parameters(), other.parameters(), strict=True):
            if name.startswith("exit"):
                own.zero_()[:, :count] = loud * given
            elif "steer" in name:
                kept, more = own.view(2, hidden, -1), given.clone().view(2, count, -1)
                one = float("bias" in name)  # scales are from 1 on
                more[0] = (more[0] + one) * loud - one
                kept[:, :count] = 0
                kept[:, :count, :count] = more
            else:
                own.mul_(0.3)[:count] = 0
                reads = own[:count, :count] if "conv.weight" in name else own[:count]
                reads.copy_(given)

    @torch.no_grad()
    def shrink(self, other: Transition) -> None:
        """Structured pruning: take over the strongest channels of one with more, in place. A channel is as
        strong as the product of the norms of what writes and of what reads it. It is to be trained on."""
        count = self.channels
        state = other.state_dict()
        convs = [weight for name, weight in state.items() if name.endswith("conv.weight")]
        steers = [weight for name, weight in state.items() if name.endswith("steer.weight")]
        written = torch.cat([other.entry.weight, other.place.weight, *(c.flatten(1) for c in convs)], dim=1)
        read = torch.cat([other.exit.weight, *(c.transpose(0, 1).flatten(1).T for c in convs)])
        kept = _strongest(written.norm(dim=1) * read.norm(dim=0), count)
        steering = _strongest(other.action.weight.norm(dim=1) * torch.cat(steers).norm(dim=0), count)
        for (name, own), given in zip(self.named_parameters(), other.parameters(), strict=True):
            if name.startswith("exit"):
                found = given[:, kept]
            elif name.startswith("action"):
                found = given[steering]
            elif "steer" in name:
                found = given.unflatten(0, (2, -1))[:, kept].flatten(0, 1)
                found = found[:, steering] if found.dim() > 1 else found
            else:
                found = given[kept][:, kept] if "conv.weight" in name else given[kept]
            own.copy_(found)

    def forward(self, images: Tensor, sizes: Tensor, actions: Tensor) -> Tensor:
        """images [N, H, W, D], padded below and on the right where sizes [N, 2] are smaller; actions [N, D]:
        the sum of the action ids' embeddings -> [N, H, W, D]."""
        inside, places = _places(images, sizes)
        steered = nn.functional.silu(self.action(_normed(actions)))
        x = self.entry(_normed(images)) + self.place(places.to(images.dtype))
        for block in self.blocks:
            x = block(x, inside, steered)
        changed: Tensor = self.exit(_normed(x))
        return images + changed

    def references(self, given: Sequence[References]) -> Sequence[References]:
        """Images of all sizes in one call; in training also if nothing was done after any."""
        which = [self._which(one) for one in given]
        if not self.training and not any(some.any() for some in which):
            return given
        height, width = (max(one.shape[axis] for one in given) for axis in (0, 1))
        padded = torch.cat([_padded(*pair, height, width) for pair in zip(given, which, strict=True)])
        counts = [int(some.sum()) for some in which]
        shapes = torch.tensor([one.shape for one in given]).repeat_interleave(torch.tensor(counts), dim=0)
        steered = torch.cat([self._steer(one)[some] for one, some in zip(given, which, strict=True)])
        changed = self(padded, shapes.to(padded.device), steered).split(counts)
        return [_with(*each) for each in zip(given, which, changed, strict=True)]

    def _which(self, given: References) -> Tensor:
        """[N] bool: the images that change."""
        return given.has_actions if not self.words or given.shown is None else given.shown

    def _steer(self, given: References) -> Tensor:
        """[N, D]: what was done and, with `words`, said since each image."""
        return given.actions if not self.words or given.words is None else given.actions + given.words


def _padded(given: References, which: Tensor, height: int, width: int) -> Tensor:
    """[n, height, width, D]: the images that change."""
    h, w = given.shape
    images = given.images[which].unflatten(1, given.shape)
    return nn.functional.pad(images, (0, 0, 0, width - w, 0, height - h))


def _with(given: References, which: Tensor, changed: Tensor) -> References:
    """With the images that change as `changed` [n, H, W, D], padded, says."""
    h, w = given.shape
    images = changed[:, :h, :w].flatten(1, 2).to(given.images.dtype)
    return replace(given, images=given.images.index_put((which,), images))


class Block(nn.Module):
    """A residual 3 x 3 convolution; the actions scale and shift what it reads (FiLM, arXiv 1709.07871)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.steer = nn.Linear(hidden, 2 * hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1)

    def forward(self, x: Tensor, inside: Tensor, steered: Tensor) -> Tensor:
        """x [N, H, W, C], inside [N, H, W, 1] bool, steered [N, C] -> [N, H, W, C]."""
        scale, shift = self.steer(steered)[:, None, None].chunk(2, dim=-1)
        read = nn.functional.silu(_normed(x) * (1 + scale) + shift) * inside
        return x + self.conv(read.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _strongest(strength: Tensor, count: int) -> Tensor:
    return strength.topk(count).indices.sort().values


def _normed(x: Tensor) -> Tensor:
    return nn.functional.rms_norm(x.float(), x.shape[-1:]).to(x.dtype)


def _places(images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a place belongs to its image [N, H, W, 1], and where it lies in it, from -1 to 1, with squares
    and product [N, H, W, 5]."""
    numbers = [torch.arange(side, device=images.device) for side in images.shape[1:3]]
    rows, columns = torch.meshgrid(*numbers, indexing="ij")
    height, width = sizes[:, 0, None, None], sizes[:, 1, None, None]
    y, x = (2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1
    inside = (rows < height) & (columns < width)
    return inside[..., None], torch.stack([y, x, y * y, x * x, x * y], dim=-1)
