"""The register of small models that every verb must get right, and what cases are written with.

A case is a function without arguments that returns a model with what feeds it. It is called anew wherever a user would
make the model anew, under another seed, so that whatever a file does not bring back shows.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

VERBS = ("compress", "quantize", "decompose", "file")
ZOO: dict[str, Case] = {}


@dataclass
class Given:
    """A model, a function from a number of samples to a batch without labels, and further fields of its task."""

    model: nn.Module
    inputs: Callable[[int], Any]
    extras: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] = (16, 16)  # of the batches of calib; those of verify are twice as large
    close: float = 0.15  # most relative change of outputs at eight bits


@dataclass(frozen=True)
class Case:
    """A name, its group, how it is made, and the verbs that refuse it, each with words of the sentence it is told."""

    name: str
    group: str
    make: Callable[[], Given]
    refused: dict[str, str]
    pending: str

    def build(self, seed: int = 0) -> Given:
        """The model as its user makes it; the seed says which random weights it starts with."""
        torch.manual_seed(seed)
        return self.make()


def case(name: str, group: str, pending: str = "", **refused: str) -> Callable[[Any], Any]:
    """Register a function that returns (model, inputs) or (model, inputs, fields of ``Given``) as a case.

    ``refused`` gives, by verb ("every" for all that run the model), words of the sentence that refuses it; ``pending``
    who mends what, as long as the case fails.
    """

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        def make() -> Given:
            model, inputs, *more = function()
            return Given(model, inputs, **(more[0] if more else {}))

        assert name not in ZOO, name
        every = refused.pop("every", None)
        told = dict.fromkeys(VERBS[:3], every) if every else {}
        ZOO[name] = Case(name, group, make, {**told, **refused}, pending)
        return function

    return register


def zoo() -> dict[str, Case]:
    """All cases by name."""
    for path in sorted((Path(__file__).parent / "zoo").glob("*.py")):
        importlib.import_module(f"tests.conformance.zoo.{path.stem}")
    return ZOO


def of(group: str) -> list[Any]:
    """Names of the cases of a group, as parameters of a test; what is pending is expected to fail."""
    cases = (case for case in zoo().values() if case.group == group)
    return [
        pytest.param(c.name, marks=pytest.mark.xfail(strict=True, reason=c.pending) if c.pending else ()) for c in cases
    ]


class Net(nn.Module):
    """A module of parts, whose forward is a function of the module and of what it is called with."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, Buffer):
                self.register_buffer(name, part.tensor, part.persistent)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


@dataclass(frozen=True)
class Buffer:
    """A part of ``Net`` that is a buffer."""

    tensor: Tensor
    persistent: bool = True


def param(*shape: int, scale: float = 0.3, grad: bool = True) -> nn.Parameter:
    """A bare parameter of random numbers."""
    return nn.Parameter(scale * torch.randn(shape), requires_grad=grad)


def normal(*shape: int) -> Callable[[int], Tensor]:
    """Samples of Gaussian numbers, ``shape`` each."""
    return lambda count: torch.randn(count, *shape)


def tokens(length: int, kinds: int = 20) -> Callable[[int], Tensor]:
    """Samples of ``length`` token ids."""
    return lambda count: torch.randint(1, kinds, (count, length))


def both(**parts: Callable[[int], Tensor]) -> Callable[[int], dict[str, Tensor]]:
    """Samples that are keyword arguments."""
    return lambda count: {name: part(count) for name, part in parts.items()}


def several(*parts: Callable[[int], Tensor]) -> Callable[[int], tuple[Tensor, ...]]:
    """Samples that are positional arguments."""
    return lambda count: tuple(part(count) for part in parts)
