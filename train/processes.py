"""Several processes that train one tokenizer, each on its share of a batch: gradients and running averages
are made equal after every step, so that all hold the same weights."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Processes:
    """`rank` of `count`, which exchange tensors on a `device`; alone nothing is exchanged."""

    def __init__(self, rank: int = 0, count: int = 1, device: str = "cpu") -> None:
        self.rank, self.count, self.device = rank, count, device

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """The mean of every gradient over the processes; where some have none it counts as zero."""
        if self.count == 1:
            return
        found = list(parameters)
        for parameter in found:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._average([parameter.grad for parameter in found if parameter.grad is not None])

    def average_buffers(self, module: nn.Module) -> None:
        """The same for running averages: buffers of floats."""
        if self.count > 1:
            self._average([buffer for buffer in module.buffers() if buffer.is_floating_point()])

    def gather(self, values: Tensor) -> Tensor:
        """[N, ...] of this process -> those of all, in the order of their ranks, without gradient."""
        if self.count == 1:
            return values.detach()
        parts = [torch.empty_like(values) for _ in range(self.count)]
        torch.distributed.all_gather(parts, values.detach().contiguous())
        return torch.cat(parts)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of numbers with the same names."""
        if self.count == 1:
            return values
        row = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(row)
        return dict(zip(values, (row / self.count).tolist(), strict=True))

    def share(self, batch: Tensor) -> Tensor:
        """The rows of a batch [B, ...] that are this process's. ValueError unless they can be divided."""
        if len(batch) % self.count:
            raise ValueError(f"a batch of {len(batch)} cannot be divided among {self.count} processes")
        return batch.chunk(self.count)[self.rank]

    def wait(self) -> None:
        if self.count > 1:
            torch.distributed.barrier()

    def _average(self, tensors: list[Tensor]) -> None:
        if not tensors:
            return
        flat = torch.cat([tensor.detach().flatten().float() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))


ALONE = Processes()


def started(device: str = "cpu") -> Processes:
    """Those that torchrun started, joined by gloo, or by NCCL on GPUs; alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    if device != "cpu":
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    return Processes(torch.distributed.get_rank(), count, device)
