"""fastsr.train.soap: the stacked optimiser computes what the paper's algorithm says, and goes on from its state with the same bits."""

from __future__ import annotations

import copy
import io
import math

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from fastsr.train import soap  # noqa: E402

SHAPES = [(8, 4, 3, 3), (8, 4, 3, 3), (8,), (9, 1, 3, 3), (7, 7), (1,), (8,), (1, 1, 3, 3)]
"""Axes no longer than the others together: covariances of longer ones have no basis of their own at first."""


def parameters(seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=draw).requires_grad_() for s in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(1000 + step)
    return [torch.randn(s, generator=draw) * torch.linspace(0.1, 2, s[0]).view(-1, *[1] * (len(s) - 1)) for s in SHAPES]


class Alone:
    """The algorithm for one parameter, the gradient's axes one by one, second moments kept by the basis vectors they belong to."""

    def __init__(self, p: torch.Tensor, rate: float, beta1: float = 0.9, beta2: float = 0.999, decay: float = 0.95) -> None:
        self.p, self.rate, self.beta1, self.beta2, self.decay = p.double(), rate, beta1, beta2, decay
        self.count = 0

    def turned(self, g: torch.Tensor, back: bool = False) -> torch.Tensor:
        for k, q in enumerate(self.bases):
            g = torch.tensordot(g, q, dims=([k], [1 if back else 0])).movedim(-1, k)
        return g

    def step(self, grad: torch.Tensor) -> None:
        g = grad.double().flatten(2) if grad.ndim == 4 else grad.double()
        g = g.squeeze() if g.numel() > 1 else g.reshape(1)
        grams = [torch.tensordot(g, g, dims=([a for a in range(g.ndim) if a != k],) * 2) for k in range(g.ndim)] if g.ndim > 1 else []
        if not self.count:
            self.mean, self.square = torch.zeros_like(g), torch.zeros_like(g)
            self.grams = grams
            self.bases = [torch.linalg.eigh(c)[1].flip(1) for c in grams]
        self.count += 1
        self.mean = self.beta1 * self.mean + (1 - self.beta1) * g
        self.square = self.beta2 * self.square + (1 - self.beta2) * self.turned(g) ** 2
        step = self.turned(self.mean) / (1 - self.beta1**self.count) / (torch.sqrt(self.square / (1 - self.beta2**self.count)) + 1e-8)
        self.p = self.p - self.rate * self.turned(step, back=True).view(self.p.shape)
        self.grams = [self.decay * c + (1 - self.decay) * new for c, new in zip(self.grams, grams)]
        if self.count % soap.REFRESH == 0:
            for k, c in enumerate(self.grams):
                q = self.bases[k]
                order = torch.diagonal(q.T @ c @ q).argsort(descending=True)
                self.bases[k] = torch.linalg.qr(c @ q[:, order])[0]
                self.square = self.square.index_select(k, order)


def test_as_the_algorithm_says() -> None:
    params = [p.detach().double().requires_grad_() for p in parameters()]
    alone = [Alone(p.detach(), 0.01) for p in params]
    optimiser = soap.SOAP(params, 0.01)
    for k in range(3 * soap.REFRESH + 4):
        for p, g, a in zip(params, gradients(k), alone):
            p.grad = g.double()
            a.step(g)
        optimiser.step()
    for p, a, begun in zip(params, alone, parameters()):
        torch.testing.assert_close(p.detach(), a.p, rtol=0, atol=1e-6)
        assert float((a.p - begun.detach()).abs().max()) > 1e-2


def test_one_axis_is_adam() -> None:
    mine, theirs = parameters(), parameters()
    flat = [k for k, s in enumerate(SHAPES) if math.prod(s) == s[0]]
    ours = soap.SOAP([mine[k] for k in flat], 0.01)
    adam = torch.optim.Adam([theirs[k] for k in flat], lr=0.01)
    for k in range(12):
        for a, b, g in zip(mine, theirs, gradients(k)):
            a.grad, b.grad = g.clone(), g.clone()
        ours.step()
        adam.step()
    for k in flat:
        torch.testing.assert_close(mine[k], theirs[k], rtol=0, atol=1e-6)


def test_steps_turn_with_the_axes() -> None:
    """In a rotated basis the algorithm takes the rotated steps, which Adam does not."""
    draw = torch.Generator().manual_seed(3)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw, dtype=torch.float64))[0]
    p, q = (torch.zeros(6, 6, dtype=torch.float64).requires_grad_() for _ in range(2))
    a, b = soap.SOAP([p], 0.01), soap.SOAP([q], 0.01)
    for _ in range(25):
        g = torch.randn(6, 6, generator=draw, dtype=torch.float64)
        p.grad, q.grad = g, turn @ g
        a.step()
        b.step()
    torch.testing.assert_close(turn @ p.detach(), q.detach(), rtol=0, atol=1e-6)


def test_goes_on_with_the_same_bits() -> None:
    whole = parameters()
    optimiser = soap.SOAP(whole, 0.01)
    kept = None
    for k in range(30):
        for p, g in zip(whole, gradients(k)):
            p.grad = g.clone()
        optimiser.step()
        if k == 13:
            file = io.BytesIO()
            torch.save([[p.detach() for p in whole], optimiser.state_dict()], file)
            kept = io.BytesIO(file.getvalue())
    assert kept is not None
    values, state = torch.load(kept, weights_only=True)
    parts = [v.clone().requires_grad_() for v in values]
    second = soap.SOAP(parts, 0.5)
    second.load_state_dict(copy.deepcopy(state))
    for k in range(14, 30):
        for p, g in zip(parts, gradients(k)):
            p.grad = g.clone()
        second.step()
    for a, b in zip(whole, parts):
        assert torch.equal(a, b)


def test_less_than_adam_in_as_many_steps() -> None:
    """Three convolutions learn to do what three others do."""

    def chain(seed: int) -> torch.nn.Sequential:
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Conv2d(1, 8, 5), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))

    def left_after(make: type[torch.optim.Optimizer], rate: float) -> float:
        wanted, net = chain(1), chain(2)
        draw = torch.Generator().manual_seed(7)
        optimiser = make(net.parameters(), rate)
        total = 0.0
        for k in range(150):
            x = torch.nn.functional.avg_pool2d(torch.randn(4, 1, 20, 20, generator=draw), 3, 1)
            optimiser.zero_grad()
            loss = (net(x) - wanted(x).detach()).square().mean()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) if k >= 120 else 0.0
        return total

    assert left_after(soap.SOAP, 0.01) < 0.9 * min(left_after(torch.optim.Adam, r) for r in (0.003, 0.01, 0.03))


AXES = [((64, 1, 5, 5), (64, 25)), ((8, 4, 3, 3), (8, 4, 9)), ((4, 8, 1, 1), (4, 8)), ((7,), (7,)), ((1,), (1,)), ((3, 5, 9), (3, 5, 9))]


@pytest.mark.parametrize(("shape", "wanted"), AXES)
def test_axes(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert soap.axes(shape) == wanted


def test_long_axes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soap, "LARGEST", 8)
    p = torch.zeros(8, 4, requires_grad=True)
    optimiser = soap.SOAP([p], 0.01)
    for k in range(soap.REFRESH + 1):
        p.grad = torch.randn(8, 4, generator=torch.Generator().manual_seed(k))
        optimiser.step()
    bases = optimiser.state[p]["bases"]
    assert bases[0] is None
    assert bases[1].shape == (1, 4, 4)
    torch.testing.assert_close(bases[1][0].T @ bases[1][0], torch.eye(4), rtol=0, atol=1e-5)


def test_takes_no_closure() -> None:
    with pytest.raises(ValueError, match="closure"):
        soap.SOAP(parameters(), 0.01).step(lambda: 0.0)
