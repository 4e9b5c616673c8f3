"""Layers whose inputs, or outputs, are rounded to integers of a few bits: hooks on an ordinary module, not traced.

Hooks keep module types and state keys as they are, and ``copy.deepcopy`` and ``torch.save`` take them along. Codes are
those of ONNX's QuantizeLinear, q = clamp(round(x/s) + z, 0, 2ᵇ − 1) with ties to even, so that an exported net computes
the same; the value 0 is always on the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noworse.errors import BadInput, CorruptFile, MismatchedModule
from noworse.model.hooks import Given, with_first

OUTPUT = "..output"  # behind a layer's name, where no layer's name can end so: the range of what it returns
WAYS = {"nearest": torch.round, "up": torch.ceil, "down": torch.floor}


@dataclass(frozen=True)
class Range:
    """Codes 0 … 2^bits − 1 of the values (q − zero) · scale; BadInput for what is no such range."""

    scale: float
    zero: int
    bits: int
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (self.zero, self.bits))
        if not whole or not 2 <= self.bits <= 16 or not 0 <= self.zero < 2**self.bits:
            raise BadInput(f"a range of {self.bits!r} bits with zero at {self.zero!r}: expected 2 to 16, and a code")
        if not isinstance(self.scale, (int, float)) or not 0 < self.scale <= torch.finfo(torch.float32).max:
            raise BadInput(f"a range of scale {self.scale!r}: expected a positive number")
        if self.rounding not in WAYS:
            raise BadInput(f"a range rounded {self.rounding!r}: expected one of {', '.join(WAYS)}")

    @classmethod
    def covering(cls, low: float, high: float, bits: int, rounding: str = "nearest") -> Range:
        """Return the range of ``bits`` bits from about ``low`` ≤ 0 to ``high`` ≥ 0."""
        scale = float(np.float32((high - low) / (2**bits - 1)))
        scale = scale if scale > 0 else 1.0  # constant zeros
        return cls(scale, min(max(round(-low / scale), 0), 2**bits - 1), bits, rounding)

    def __call__(self, values: Tensor) -> Tensor:
        """Return values as their codes stand for them, in their own dtype."""
        if values.is_nested:
            return torch.nested.as_nested_tensor([self(part) for part in values.unbind()])
        codes = WAYS[self.rounding](values.float() / self.scale).clamp_(-self.zero, 2**self.bits - 1 - self.zero)
        return codes.mul_(self.scale).to(values.dtype)


class Quantizer:
    """Hooks that round a layer's first argument, or its output; ``rounded`` stands for another way to do it."""

    def __init__(self, values: Range, rounded: Callable[[Tensor], Tensor] | None = None) -> None:
        self.range, self.rounded = values, rounded or values

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
        """Return the arguments with the first real-valued tensor among them rounded."""
        return with_first(args, kwargs, self.rounded) or (args, kwargs)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the output rounded."""
        return self.rounded(output)


def add_rounding(
    module: nn.Module, ranges: Mapping[str, Range], make: Callable[[Range], Quantizer] = Quantizer
) -> nn.Module:
    """Round the inputs of the named layers from now on, or the outputs of those named with ``OUTPUT``, in place.

    MismatchedModule for a layer that is not there.
    """
    layers = dict(module.named_modules(remove_duplicate=False))
    missing = [name for name in ranges if name.removesuffix(OUTPUT) not in layers]
    if missing:
        raise MismatchedModule(f"no layers {', '.join(missing)} in the module: expected those whose inputs are rounded")
    remove_rounding(module)
    for name, values in ranges.items():
        layer, quantizer = layers[name.removesuffix(OUTPUT)], make(values)
        if name.endswith(OUTPUT):
            layer.register_forward_hook(quantizer.leave)
        else:
            layer.register_forward_pre_hook(quantizer.enter, with_kwargs=True)
    return module


def remove_rounding(module: nn.Module) -> None:
    """Remove what ``add_rounding`` added."""
    for _, _, key, places in list(_attached(module)):
        for hooks in places:
            hooks.pop(key, None)


def activation_ranges(module: nn.Module) -> dict[str, Range]:
    """Return the ranges of all that is rounded, by the names that ``add_rounding`` takes."""
    return {name: quantizer.range for name, quantizer, _, _ in _attached(module)}


def _attached(module: nn.Module) -> Iterator[tuple[str, Quantizer, int, list[dict[int, Any]]]]:
    """Names as ``add_rounding`` takes them, quantizers, and the key of each with the mappings that it stands in."""
    for name, layer in module.named_modules():
        inputs: list[dict[int, Any]] = [layer._forward_pre_hooks, layer._forward_pre_hooks_with_kwargs]
        for end, places in (("", inputs), (OUTPUT, [layer._forward_hooks])):
            for key, hook in places[0].items():
                owner = getattr(hook, "__self__", None)
                if isinstance(owner, Quantizer):
                    yield name + end, owner, key, places


def to_settings(ranges: Mapping[str, Range]) -> dict[str, Any]:
    """Return ranges as they stand in a file's settings."""
    return {name: list(asdict(values).values()) for name, values in ranges.items()}


def from_settings(settings: Any) -> dict[str, Range]:
    """Return ranges from a file's settings; CorruptFile for anything else, since files come from strangers."""
    try:
        return {name: Range(*values) for name, values in settings.items()}
    except (AttributeError, TypeError, BadInput) as error:
        raise CorruptFile(f"the file's activation ranges cannot be read: {error}") from error
