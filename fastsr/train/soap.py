"""The optimiser SOAP (Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025).

Adam whose second moments are kept in the eigenbasis of the gradients' covariance along each axis of a kernel. A step costs a few products of small
matrices more than Adam's, and small super-resolution networks come as far in one step as in ten or more of Adam's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

REFRESH = 10
"""Steps between improvements of the eigenbases."""

LARGEST = 1024
"""Length of an axis from which on it is left as it is."""


class SOAP(torch.optim.Optimizer):
    """rate: learning rate. betas: decay of the gradient's mean and of its square's. decay: of the covariances.

    Parameters of equal shape are stacked and computed together. A kernel (O, I, K, K) has the axes O, I and K * K; axes of length 1 do not count, and
    what has one axis only is trained by plain Adam.
    """

    def __init__(
        self, params: Iterable[torch.Tensor], rate: float, betas: tuple[float, float] = (0.9, 0.999), decay: float = 0.95, eps: float = 1e-8
    ) -> None:
        super().__init__(params, {"lr": rate, "betas": betas, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One step by the gradients; parameters without one stay."""
        if closure is not None:
            raise ValueError("this optimiser takes no closure")
        for group in self.param_groups:
            stacks: dict[tuple[int, ...], list[torch.Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    stacks.setdefault(tuple(p.shape), []).append(p)
            for shape, params in stacks.items():
                self._advance(group, axes(shape), params)

    def _advance(self, group: dict[str, Any], sizes: tuple[int, ...], params: list[torch.Tensor]) -> None:
        g = torch.stack([p.grad for p in params if p.grad is not None]).view(len(params), *sizes)
        state = self.state[params[0]]
        turned = len(sizes) > 1
        if not state:
            state["count"] = 0
            state["mean"], state["square"] = torch.zeros_like(g), torch.zeros_like(g)
            if turned:
                state["grams"] = [covariance(g, k) if n < LARGEST else None for k, n in enumerate(sizes)]
                state["bases"] = [None if c is None else torch.linalg.eigh(c)[1].flip(2).contiguous() for c in state["grams"]]
        state["count"] += 1
        first, second = group["betas"]
        mean, square = state["mean"].lerp_(g, 1 - first), state["square"]
        seen, step = (rotated(g, state["bases"]), rotated(mean, state["bases"])) if turned else (g, mean)
        square.mul_(second).addcmul_(seen, seen, value=1 - second)
        count = state["count"]
        root = square.sqrt().mul_((1 - second**count) ** -0.5).add_(group["eps"])
        step = step / root
        if turned:
            step = rotated(step, [None if b is None else b.mT for b in state["bases"]])
        torch._foreach_add_(params, [s.view(p.shape) for s, p in zip(step.unbind(), params)], alpha=-group["lr"] / (1 - first**count))
        if turned:
            self._follow(state, g, group["decay"])

    @staticmethod
    def _follow(state: dict[str, Any], g: torch.Tensor, decay: float) -> None:
        """Take the gradient into the covariances; now and then bring the bases nearer to their eigenvectors by one orthogonal iteration."""
        for k, c in enumerate(state["grams"]):
            if c is None:
                continue
            c.lerp_(covariance(g, k), 1 - decay)
            if state["count"] % REFRESH:
                continue
            basis = state["bases"][k]
            image = c @ basis
            order = (basis * image).sum(1).argsort(dim=1, descending=True, stable=True)
            state["bases"][k] = torch.linalg.qr(torch.take_along_dim(image, order[:, None, :], 2))[0]
            places = order.view(len(g), *[1] * k, -1, *[1] * (g.ndim - 2 - k))
            state["square"] = torch.take_along_dim(state["square"], places, k + 1)


def axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of a parameter's axes: those of a kernel's height and width are one, those of length 1 are none."""
    joined = (*shape[:2], shape[2] * shape[3]) if len(shape) == 4 else shape
    return tuple(n for n in joined if n > 1) or (1,)


def covariance(g: torch.Tensor, k: int) -> torch.Tensor:
    """(N, n, n) of stacked gradients (N, ...) along axis k, of length n."""
    rows = g.movedim(k + 1, 1).flatten(2)
    return rows @ rows.mT


def rotated(x: torch.Tensor, bases: list[torch.Tensor | None]) -> torch.Tensor:
    """Stacked x (N, ...) with axis k multiplied by the matrices (N, n, n) of bases[k]; None leaves it as it is."""
    for k, basis in enumerate(bases):
        if basis is not None:
            moved = x.movedim(k + 1, -1)
            x = (moved.reshape(len(x), -1, moved.shape[-1]) @ basis).view(moved.shape).movedim(-1, k + 1)
    return x
