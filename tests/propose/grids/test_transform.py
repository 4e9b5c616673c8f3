import torch
from hypothesis import given
from hypothesis import strategies as st

from noworse.propose.grids.transform import Deadzone, decode, magnitude

ZONES = st.floats(0.4, 3.9)


def code_of(t: torch.Tensor, r: float) -> torch.Tensor:
    """|c| by the transform that all grids share."""
    return Deadzone().code(t, torch.tensor(r, dtype=torch.float64), t)


def reference(w: float, s: float, r: float) -> tuple[int, float]:
    """Code and reconstruction of one weight in Python floats, from the definition of the edge-scale transform."""
    e = r * s
    c = w / (2 * e) if abs(w) <= e else (0.5 + (abs(w) - e) / s) * (1 if w > 0 else -1)
    q = round(c)
    return q, 0.0 if q == 0 else (1 if q > 0 else -1) * (e + (abs(q) - 0.5) * s)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(0.01, 5), ZONES)
def test_against_the_definition(weights: list[float], s: float, r: float) -> None:
    w = torch.tensor(weights, dtype=torch.float64)
    t = w.abs() / s
    near = (code_of(t, r) % 1 - 0.5).abs() < 1e-9  # on a boundary either neighbour is right
    q = torch.copysign(magnitude(t - r), w)
    decoded = torch.copysign(decode(q.abs(), r) * s, w)
    for i, value in enumerate(weights):
        if not near[i]:
            code, reconstruction = reference(value, s, r)
            assert q[i] == code
            assert abs(decoded[i] - reconstruction) <= 1e-9 * (1 + abs(reconstruction))


@given(st.integers(1, 1000), ZONES)
def test_inverse_of_every_code_is_the_code(q: int, r: float) -> None:
    value = decode(torch.tensor([float(q)], dtype=torch.float64), r)
    assert abs(code_of(value, r).item() - q) < 1e-6
    assert magnitude(value - r).item() == q


def test_straight_through_derivatives() -> None:
    """Autograd through T⁻¹ at round(T(w)) + T(w) − stop(T(w)) gives the closed forms of docs/method.md."""
    w = torch.tensor([0.03, 0.3, -0.9, 2.2, -0.1], dtype=torch.float64, requires_grad=True)
    log_s = torch.tensor(-0.6, dtype=torch.float64, requires_grad=True)
    r = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    s = log_s.exp()
    t = w.abs() / s
    c = torch.where(t <= r, t / (2 * r), t - r + 0.5) * w.sign()
    q = c.round().detach() + c - c.detach()
    zero = c.round() == 0
    decoded = torch.where(zero, 2 * r * s * q, w.sign() * s * (r + q.abs() - 0.5))
    upstream = torch.randn(5, dtype=torch.float64)
    (decoded * upstream).sum().backward()
    hard = torch.copysign(decode(magnitude(t - r), r) * s, w)
    assert torch.allclose(w.grad, upstream)
    assert torch.allclose(log_s.grad, (upstream * (hard - w)).sum())
    assert torch.allclose(r.grad, (upstream * torch.where(zero, -w / r, 0.0)).sum())
