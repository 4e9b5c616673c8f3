"""The dead-zone transform of L² (edge-scale form) on magnitudes, its inverse, and their derivatives.

With step s and half width r·s of the zero bin (r = 1/2: a uniform quantiser, larger r prunes), and t = |w|/s:

    |c| = T(|w|)   = t/(2r)            for t <= r,    t − r + 1/2     otherwise          (code, in code units)
    |q| = round(|c|)
    |ŵ| = T⁻¹(|q|) = 0                 for q = 0,     (r + |q| − 1/2)·s     otherwise

The signs of c, q and ŵ are that of w. With the straight-through estimator for round, the exact derivatives are

    ∂ŵ/∂w = 1          ∂ŵ/∂ln s = ŵ − w          ∂ŵ/∂r = −w/r for q = 0, else 0.

Source: Shi et al., L² compression (ICCV 2023), the parametric transform, here with r = e/s.
"""

from __future__ import annotations

from torch import Tensor


def magnitude(excess: Tensor) -> Tensor:
    """|q| = round(T(|w|)) from t − r (any shape): 0 inside the zero bin, round(t − r + 1/2) outside."""
    return excess.floor().add_(1).clamp_(min=0)


def decode(q: Tensor, r: Tensor | float) -> Tensor:
    """|ŵ|/s = T⁻¹(|q|)/s for magnitudes q >= 0; r broadcasts against q."""
    return (q + (r - 0.5)).mul_(q > 0)
