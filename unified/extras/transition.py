"""What an image turns into under an action: convolutions over the embeddings of its codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unified.orders.shapes import Shape

BLOCKS = 6  # each looks one code further: a turn moves what is seen by several


class Transition(nn.Module):
    """Embeddings of the latest image's codes to what they should be after the actions said since. A frame
    that follows from a frame is a local function of it, the same everywhere, which convolutions of `hidden`
    channels learn from far fewer frames than attention does. It starts as the identity."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.entry = nn.Linear(width, hidden)
        self.place = nn.Linear(5, hidden, bias=False)
        self.action = nn.Linear(width, hidden)
        self.blocks = nn.ModuleList(Block(hidden) for _ in range(BLOCKS))
        self.exit = nn.Linear(hidden, width, bias=False)

    def start(self, std: float) -> None:
        """First weights: kernels that keep the size of what they read, and the identity in all."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
        nn.init.zeros_(self.exit.weight)

    @torch.no_grad()
    def grow(self, other: Transition) -> None:
        """Begins as what another with fewer channels does. The others start low, and unheard."""
        count, hidden = len(other.entry.bias), len(self.entry.bias)
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
        """Begins as another with more channels, less those that say least: the product of what each is
        written with and read with. What is left is to be trained on."""
        count = len(self.entry.bias)
        state = other.state_dict()
        convs = [weight for name, weight in state.items() if name.endswith("conv.weight")]
        steers = [weight for name, weight in state.items() if name.endswith("steer.weight")]
        written = torch.cat([other.entry.weight, other.place.weight, *(c.flatten(1) for c in convs)], dim=1)
        read = torch.cat([other.exit.weight, *(c.transpose(0, 1).flatten(1).T for c in convs)])
        kept = _strongest(written.norm(dim=1) * read.norm(dim=0), count)
        said = _strongest(other.action.weight.norm(dim=1) * torch.cat(steers).norm(dim=0), count)
        for (name, own), given in zip(self.named_parameters(), other.parameters(), strict=True):
            if name.startswith("exit"):
                found = given[:, kept]
            elif name.startswith("action"):
                found = given[said]
            elif "steer" in name:
                found = given.unflatten(0, (2, -1))[:, kept].flatten(0, 1)
                found = found[:, said] if found.dim() > 1 else found
            else:
                found = given[kept][:, kept] if "conv.weight" in name else given[kept]
            own.copy_(found)

    def forward(self, images: Tensor, sizes: Tensor, said: Tensor) -> Tensor:
        """images [N, H, W, D], filled up below and on the right where sizes [N, 2] are smaller; said [N, D]:
        the sum of the actions' embeddings -> [N, H, W, D]."""
        inside, places = _places(images, sizes)
        steered = nn.functional.silu(self.action(_normed(said)))
        x = self.entry(_normed(images)) + self.place(places.to(images.dtype))
        for block in self.blocks:
            x = block(x, inside, steered)
        return images + self.exit(_normed(x))


class Block(nn.Module):
    """A 3 x 3 convolution beside what it changes; the action scales and shifts what it reads."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.steer = nn.Linear(hidden, 2 * hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1)

    def forward(self, x: Tensor, inside: Tensor, steered: Tensor) -> Tensor:
        """x [N, H, W, C], inside [N, H, W, 1] bool, steered [N, C] -> [N, H, W, C]."""
        scale, shift = self.steer(steered)[:, None, None].chunk(2, dim=-1)
        read = nn.functional.silu(_normed(x) * (1 + scale) + shift) * inside
        return x + self.conv(read.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def onward(images: Tensor, before: Tensor) -> Tensor:
    """What a next step goes on from in place of codes: images [N, R, D] that a transition has made of others
    [N, R, D], every place as long as those were in the mean. Movements of less than a code, and what is not
    certain, are kept so from step to step; a transition learns to go on from them (`train.transition`)."""
    length = before.float().pow(2).mean(dim=(-2, -1), keepdim=True).sqrt()
    return (_normed(images.float()) * length).to(images.dtype)


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


def moved(
    transition: Transition,
    images: Sequence[Tensor],
    shapes: Sequence[Shape],
    said: Sequence[Tensor],
    acted: Sequence[Tensor],
) -> list[Tensor]:
    """Images [N_i, h_i * w_i, D] of some sizes after the actions said [N_i, D]; where nothing was done (acted
    [N_i] bool) they stay as they are. One call for all: sharded parameters count calls."""
    if not transition.training and not any(chosen.any() for chosen in acted):
        return list(images)
    width = said[0].shape[-1]
    height, breadth = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    padded = [
        nn.functional.pad(
            image[chosen].unflatten(1, shape), (0, 0, 0, breadth - shape[1], 0, height - shape[0])
        )
        for image, shape, chosen in zip(images, shapes, acted, strict=True)
    ]
    sizes = torch.cat([torch.tensor(s).expand(len(p), 2) for s, p in zip(shapes, padded, strict=True)])
    spoken = torch.cat([vectors[chosen] for vectors, chosen in zip(said, acted, strict=True)])
    parts = transition(torch.cat(padded), sizes.to(spoken.device), spoken).split([len(p) for p in padded])
    found = []
    for image, (h, w), chosen, part in zip(images, shapes, acted, parts, strict=True):
        changed = part[:, :h, :w].reshape(-1, h * w, width)
        found.append(image.index_put((chosen,), changed.to(image.dtype)))
    return found
