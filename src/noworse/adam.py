"""Adam by torch's fused kernel, without torch.optim: its first use imports a compiler of 130 MB and two seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8
RATE = 1e-3  # where a group has none
LARGE = 1 << 22  # elements from which on a leaf has its first moment in bfloat16
PIECE = 1 << 18  # elements of a large leaf at a time


class Adam:
    """Tunes leaves by the gradients in their ``.grad``; leaves without one stay as they are.

    ``groups`` hold "params" (leaves), their learning rate "lr", and what else the caller keeps there. ``state`` has the
    two moments of a leaf and its number of steps, from its first step on. Results are those of
    ``torch.optim.Adam(groups, fused=True)``, except that the first moment of large leaves is rounded to bfloat16, to a
    256th (the second one could not be: what a step adds to it is less). Source: Kingma and Ba, Adam (ICLR 2015).
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        self.param_groups = [{"lr": RATE, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def leaves(self) -> list[Tensor]:
        """All leaves, group by group."""
        return [leaf for group in self.param_groups for leaf in group["params"]]

    def begin(self, leaf: Tensor) -> dict[str, Tensor]:
        """The state of a leaf before its first step."""
        first = torch.zeros_like(leaf, dtype=torch.bfloat16 if leaf.numel() >= LARGE else leaf.dtype)
        self.state[leaf] = {"step": torch.zeros(()), "exp_avg": first, "exp_avg_sq": torch.zeros_like(leaf)}
        return self.state[leaf]

    @torch.no_grad()
    def step(self) -> None:
        """One step of every leaf."""
        for group in self.param_groups:
            for leaf in group["params"]:
                if leaf.grad is None:
                    continue
                state = self.state.get(leaf) or self.begin(leaf)
                state["step"] += 1
                moments = state["exp_avg"], state["exp_avg_sq"]
                if leaf.numel() < LARGE:
                    _update(leaf, leaf.grad, *moments, state["step"], group["lr"])
                    continue
                flat = (tensor.view(-1).split(PIECE) for tensor in (leaf, leaf.grad, *moments))
                for piece, gradient, narrow, second in zip(*flat, strict=True):
                    first = narrow.float()
                    _update(piece, gradient, first, second, state["step"], group["lr"])
                    narrow.copy_(first)


def _update(leaf: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: Tensor, rate: float) -> None:
    torch._fused_adam_(
        [leaf], [gradient], [first], [second], [], [step], lr=rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=0.0,
        eps=EPSILON, amsgrad=False, maximize=False,
    )  # fmt: skip
