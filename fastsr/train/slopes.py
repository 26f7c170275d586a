"""PReLU that trains several times faster on processors than PyTorch's own.

PyTorch's kernel goes through a picture in channels-last layout a pixel at a time, as slopes repeat with each. Here a line of pixels is one long row,
the slopes are repeated as often as it has pixels, and all is done by a few long vector operations. The arithmetic is the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class _Rows(torch.autograd.Function):
    """x + (slope - 1) * min(x, 0) of x (N, C, H, W), channels last."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(n * h, w * c)
        low = rows.clamp(max=0)
        exact = x.dtype.itemsize >= 4
        factor = slope.repeat(w) - 1 if exact else slope.to(x.dtype).repeat(w)  # in bfloat16 a slope near 0 is lost in slope - 1
        ctx.save_for_backward(low, factor)
        ctx.size = n, h, w, c
        return torch.addcmul(rows if exact else rows.clamp(min=0), factor, low).view(n, h, w, c).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        low, factor = ctx.saved_tensors
        n, h, w, c = ctx.size
        g = grads[0].permute(0, 2, 3, 1).reshape(n * h, w * c)
        each = g * low
        ones = torch.ones(1, n * h, dtype=each.dtype)
        slope = (ones @ each).float().view(w, c).sum(0)
        below = torch.ops.aten.threshold_backward(g, low.neg_(), 0)
        return torch.addcmul(g if g.dtype.itemsize >= 4 else g - below, factor, below).view(n, h, w, c).permute(0, 3, 1, 2), slope


def prelu(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """x (N, C, H, W) where it is positive, else x times the slope (C,) or (1,)."""
    if x.device.type == "cpu" and x.requires_grad and slope.numel() == x.shape[1] and x.is_contiguous(memory_format=torch.channels_last):
        return _Rows.apply(x, slope)
    return F.prelu(x, slope.to(x.dtype))


class Slopes(nn.PReLU):
    """nn.PReLU by `prelu`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return prelu(x, self.weight)
