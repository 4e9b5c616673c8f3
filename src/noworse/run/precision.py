"""Mixed precision: the net's passes in half precision where that is safe, all that is tuned in float32.

Half floats below 2⁻²⁴ vanish, and gradients are often smaller: for "fp16" the loss is multiplied by a large scale and
the gradient divided by it. "bf16" has the range of float32 and needs none of this.

Source: Micikevicius et al., Mixed precision training (ICLR 2018).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.run.processes import ALONE, World

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FIRST_SCALE, SMALLEST_SCALE = 2.0**16, 2.0**-14
GROW_AFTER = 500  # iterations without an overflow


@dataclass(frozen=True)
class Precision:
    """One of "fp32", "bf16", "fp16" on one kind of device."""

    kind: str
    device: str

    def cast(self) -> AbstractContextManager[object]:
        """Return a context in which operations that bear it run in this precision."""
        return nullcontext() if self.kind == "fp32" else torch.autocast(self.device, DTYPES[self.kind])

    def require(self, run: Callable[[], object]) -> None:
        """Raise BadInput where ``run()``, the net's passes on a few samples, fails in this precision."""
        if self.kind == "fp32":
            return
        try:
            run()
        except RuntimeError as error:  # what torch raises for operations that a device lacks
            what = f"precision {self.kind!r} cannot be used for this model on {self.device}"
            raise BadInput(f"{what}: {str(error).splitlines()[0]}") from error


class LossScaler:
    """The scale of the loss, halved whenever the gradient overflows and doubled after many times that it did not.

    ``usable`` tells whether the last gradient was finite.
    """

    def __init__(self, kind: str) -> None:
        self.active = kind == "fp16"
        self.scale = FIRST_SCALE if self.active else 1.0
        self.since = 0  # iterations since the last change
        self.usable = True

    def unscale_(self, gradient: Tensor, world: World = ALONE) -> None:
        """Divide by the scale, and choose the next one; BadInput where no scale keeps the gradient finite.

        Each rank of a ``world`` has a part of the gradient.
        """
        if not self.active:
            return
        gradient /= self.scale
        beyond = world.sum_(torch.isfinite(gradient).logical_not().sum().cpu())
        self.usable = not bool(beyond)
        self.since = self.since + 1 if self.usable else 0
        if not self.usable:
            self.scale /= 2
            if self.scale < SMALLEST_SCALE:
                raise BadInput("precision 'fp16' gives no finite gradients at any scale: expected 'bf16' or 'fp32'")
        elif self.since == GROW_AFTER:
            self.scale, self.since = self.scale * 2, 0
