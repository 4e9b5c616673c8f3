"""Adam by torch's fused kernel, without torch.optim: its first use imports a compiler of 130 MB and two seconds."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noworse.codec import _native
from noworse.propose.grids import kernels

BETAS, EPSILON = (0.9, 0.999), 1e-8
RATE = 1e-3  # where a group has none
LARGE = 1 << 21  # elements from which on a leaf has smaller moments
PIECE = 1 << 18  # elements of a large leaf at a time
TOGETHER = 8  # neighbouring elements of a large leaf that have one second moment
NATIVE = True  # whether native code (adam.hpp) moves large leaves that are float32 on a processor
Update = Callable[[Tensor, Tensor, Tensor, Tensor], None]


class Adam:
    """Tunes leaves by the gradients in their ``.grad``; leaves without one stay as they are.

    ``groups`` hold "params" (leaves), their learning rate "lr", and what else the caller keeps there; where a leaf is
    but a part, "count" tells the elements of the whole, by which it is large. ``state`` has the two moments of a leaf
    and its number of steps, from its first step on. Results are those of
    ``torch.optim.Adam(groups, fused=True)``, except for large leaves: their first moment is rounded to bfloat16, and
    neighbours share the mean of their second moments. Sources: Kingma and Ba, Adam (ICLR 2015); Zhang et al., Adam-mini
    (ICLR 2025), which shares one among whole blocks.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        self.param_groups = [{"lr": RATE, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def leaves(self) -> list[Tensor]:
        """Return all leaves, group by group."""
        return [leaf for group in self.param_groups for leaf in group["params"]]

    def begin(self, leaf: Tensor) -> dict[str, Tensor]:
        """Return the state of a leaf before its first step, and keep it."""
        count = next(group.get("count", leaf.numel()) for group in self.param_groups if _among(leaf, group["params"]))
        large = count >= LARGE
        first = torch.zeros_like(leaf, dtype=torch.bfloat16 if large else leaf.dtype)
        second = leaf.new_zeros(-(-leaf.numel() // TOGETHER)) if large else torch.zeros_like(leaf)
        self.state[leaf] = {"step": leaf.new_zeros(()), "exp_avg": first, "exp_avg_sq": second}
        return self.state[leaf]

    @torch.no_grad()
    def step(self) -> None:
        """Move every leaf by one step."""
        for group in self.param_groups:
            for leaf in group["params"]:
                if leaf.grad is not None:
                    state = self.state.get(leaf) or self.begin(leaf)
                    state["step"] += 1
                    each = _update if state["exp_avg"].dtype == leaf.dtype else _update_large
                    update = functools.partial(each, step=state["step"], rate=group["lr"])
                    if leaf.numel():
                        update(leaf, leaf.grad, state["exp_avg"], state["exp_avg_sq"])


def _among(leaf: Tensor, leaves: Iterable[Tensor]) -> bool:
    return any(leaf is other for other in leaves)


def _update_large(leaf: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: Tensor, rate: float) -> None:
    if not (NATIVE and kernels.take(leaf, gradient)):
        return _in_pieces(functools.partial(_update, step=step, rate=rate), leaf, gradient, first, second)
    steps, (kept, squares_kept) = float(step), BETAS
    root, pace = math.sqrt(1 - squares_kept**steps), -rate / (1 - kept**steps)
    rule = np.array([1 - kept, squares_kept, 1 - squares_kept, EPSILON, root, pace], np.float32)
    halves = first.view(torch.int16).view(-1).numpy().view(np.uint16)
    flat = leaf.detach().view(-1).numpy(), gradient.view(-1).numpy()
    _native.adam_step(*flat, halves, second.numpy(), rule, torch.get_num_threads())


def _in_pieces(update: Update, leaf: Tensor, gradient: Tensor, first: Tensor, second: Tensor) -> None:
    """Update a large leaf a piece at a time, for which both moments are made whole."""
    flat = (torch.split(whole.view(-1), PIECE) for whole in (leaf, gradient, first))
    for piece, part, narrow, shared in zip(*flat, torch.split(second, PIECE // TOGETHER), strict=True):
        wide, own = narrow.float(), shared.repeat_interleave(TOGETHER)  # which may be longer than the piece
        update(piece, part, wide, own[: len(piece)])
        narrow.copy_(wide)
        shared.copy_(own.view(-1, TOGETHER).mean(1))


def _update(leaf: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: Tensor, rate: float) -> None:
    torch._fused_adam_(
        [leaf], [gradient], [first], [second], [], [step], lr=rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=0.0,
        eps=EPSILON, amsgrad=False, maximize=False,
    )  # fmt: skip
