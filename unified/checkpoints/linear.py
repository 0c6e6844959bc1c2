"""The linear map of float32 and bfloat16 inference on a processor, with oneDNN's kernels.

PyTorch sends float32 products to MKL, which on processors not made by Intel stays on a slower instruction
set. oneDNN, which PyTorch carries for convolutions and bfloat16, does not (90 against 190 GFlop/s on one core
of an AMD EPYC with AVX-512), and adds the bias and the GELU while a tile is still in cache. Anything else
(gradients, GPUs, builds without oneDNN) takes the ordinary path; both are compared in
tests/unified/checkpoints/test_transformers.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_BF16 = _ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # not with AVX2 alone


class Linear(nn.Linear):
    """`nn.Linear` [..., in] -> [..., out]. A `bias` handed to the call takes the place of the module's
    own."""

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        bias = self.bias if bias is None else bias
        if _fused(x, self.weight):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, bias, "none", [], "")
        return F.linear(x, self.weight, bias)


class LinearGELU(nn.Linear):
    """A linear map followed by GELU in its tanh approximation."""

    def forward(self, x: Tensor) -> Tensor:
        if _fused(x, self.weight):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "tanh")
        return F.gelu(F.linear(x, self.weight, self.bias), approximate="tanh")


def _fused(x: Tensor, weight: Tensor) -> bool:
    return bool(
        _ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _BF16))
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.enabled
    )
