"""A model whose weights and layer inputs are moved by errors: losses and outputs as functions of how far.

The losses ℓ(t) are those of weights w + t δ and of layer inputs h + t ε, with errors that stay what they are on the
unmoved model while t changes (LLC, Eq. 3). Layers are moved by hooks, so that nothing is traced; derivatives in t are
those of every sample at once (derivatives.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from noworse.errors import BadInput
from noworse.judge.original import check_losses
from noworse.model.hooks import floating
from noworse.model.tensors import dense_gradients, twin
from noworse.sensitivity.derivatives import along, second_along
from noworse.survey.capture import capture, feeding
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.task import Loss

Error: TypeAlias = Tensor | Callable[[Tensor], Tensor]  # or what makes it of the tensor, such as x -> round(x) - x
Shift: TypeAlias = Mapping[str, Error]  # several places that are moved together


@dataclass
class Move:
    """The errors of one shift on one batch."""

    weights: dict[str, Tensor] = field(default_factory=dict)  # by name of the parameter
    inputs: dict[str, list[Tensor]] = field(default_factory=dict)  # by name of the layer, one for each of its calls

    def tensors(self) -> list[Tensor]:
        """All errors."""
        return [*self.weights.values(), *(error for calls in self.inputs.values() for error in calls)]


class ShiftedModel:
    """A copy of a model in eval mode, with its per-sample loss; the caller's model is not touched."""

    def __init__(self, model: nn.Module, loss: Loss, dtype: torch.dtype = torch.float32) -> None:
        self.model = twin(model).eval().requires_grad_(False).to(dtype)
        dense_gradients(self.model)
        self.loss = loss
        self.dtype = dtype
        self.parameters = dict(self.model.named_parameters(remove_duplicate=False))
        self.layers = dict(self.model.named_modules(remove_duplicate=False))
        self._whole = _Whole(self.model)
        self._results: list[Any] = []  # of the model's calls when it was last observed

    def batch(self, batch: Batch) -> Batch:
        """The batch in the model's floating-point type and on its device."""
        device = next((p.device for p in self.parameters.values()), torch.device("cpu"))

        def convert(tensor: Tensor) -> Tensor:
            return tensor.to(device, self.dtype) if tensor.is_floating_point() else tensor.to(device)

        return data.apply(batch, convert)

    def check(self, shift: Shift, label: str) -> None:
        """BadInput unless every place is a parameter or a layer of the model, with an error that fits."""
        if not shift:
            raise BadInput(f"errors[{label!r}] names no tensor: expected at least one")
        for name, error in shift.items():
            if name not in self.parameters and name not in self.layers:
                raise BadInput(f"errors[{label!r}] names {name!r}: expected a parameter or a layer of the model")
            if not isinstance(error, Tensor) and not callable(error):
                found = type(error).__name__
                raise BadInput(f"the error of {name!r} is {found}: expected a tensor or a function of the tensor")
            if name in self.parameters and not self.parameters[name].is_floating_point():
                raise BadInput(f"{name!r} is {self.parameters[name].dtype}: expected a floating-point parameter")

    def weight_move(self, shift: Shift) -> dict[str, Tensor]:
        """The errors δ of the parameters among the places of a shift."""
        return {n: self._error(n, e, self.parameters[n]) for n, e in shift.items() if n in self.parameters}

    def input_move(self, shift: Shift, seen: Mapping[str, list[Tensor]]) -> dict[str, list[Tensor]]:
        """The errors ε of the layers' inputs among the places of a shift, for what the layers were fed."""
        layers = {name: error for name, error in shift.items() if name not in self.parameters}
        return {name: [self._error(name, error, h) for h in seen[name]] for name, error in layers.items()}

    def _error(self, name: str, error: Error, tensor: Tensor) -> Tensor:
        with torch.no_grad():
            found = error if isinstance(error, Tensor) else error(tensor.clone())
        if not isinstance(found, Tensor):
            raise BadInput(f"the error of {name!r} is {type(found).__name__}: expected a tensor")
        try:
            moved = found.detach().to(tensor).expand(tensor.shape)
        except RuntimeError as problem:
            shapes = f"{tuple(found.shape)}: expected {tuple(tensor.shape)}"
            raise BadInput(f"the error of {name!r} has shape {shapes}") from problem
        if not bool(torch.isfinite(moved).all()):
            raise BadInput(f"the error of {name!r} is NaN or infinite: expected finite numbers")
        return moved

    def observe(self, batch: Batch, layers: list[str], where: str) -> tuple[Tensor, list[Tensor], dict[str, Any]]:
        """Losses (B,), outputs, and what each of ``layers`` is fed in each of its calls, nothing being moved."""
        seen: dict[str, list[Tensor]] = {name: [] for name in layers}

        def see(name: str, inputs: Tensor) -> Tensor:
            seen[name].append(inputs.detach().clone())  # the layer may write into its input
            return inputs

        with torch.no_grad(), feeding({name: self.layers[name] for name in layers}, see):
            losses, self._results = self._whole(batch, self.loss)
        check_losses(losses, data.batch_size(batch), where)
        return losses, _floating_leaves(self._results), seen

    def at(
        self, batch: Batch, move: Move, t: Tensor | float = 1.0, loss: Loss | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Losses (B,), or what another loss gives, and outputs with everything moved t times its error."""

        calls = {name: iter(errors) for name, errors in move.inputs.items()}
        weights = {f"model.{name}": self.parameters[name] + t * delta for name, delta in move.weights.items()}
        with feeding({n: self.layers[n] for n in calls}, lambda name, inputs: inputs + t * next(calls[name])):
            losses, results = functional_call(self._whole, weights, (batch, loss or self.loss))
        return losses, _floating_leaves(results)

    def tangents(self, batch: Batch, move: Move) -> tuple[Tensor, list[Tensor]]:
        """Derivatives at t = 0 of the losses (B,) and of the outputs."""
        return along(lambda t: self.at(batch, move, t), self.dtype)

    def second(self, batch: Batch, move: Move) -> Tensor:
        """Second derivatives at t = 0 of the losses, (B,): (δ, ε)ᵀ H (δ, ε) with all of the Hessian."""
        return second_along(lambda t: self.at(batch, move, t)[0], self.dtype)

    def output_curvature(self, batch: Batch, outputs: list[Tensor], tangents: list[Tensor]) -> Tensor:
        """(B,): dzᵀ (∂²ℓ/∂z²) dz of tangents dz of the outputs z, the Gauss-Newton form."""
        return second_along(self._along(batch, outputs, tangents), self.dtype)

    def output_slope(self, batch: Batch, outputs: list[Tensor], tangents: list[Tensor]) -> Tensor:
        """(B,): (∂ℓ/∂z)ᵀ dz."""
        return along(self._along(batch, outputs, tangents), self.dtype)

    def _along(self, batch: Batch, outputs: list[Tensor], tangents: list[Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda t: self.replay(batch, [z + t * dz for z, dz in zip(outputs, tangents, strict=True)])

    def replay(self, batch: Batch, outputs: list[Tensor]) -> Tensor:
        """The losses (B,) if the model's calls returned these outputs."""
        pending = iter(outputs)
        results = iter(self._results)

        def answer(*args: Any, **kwargs: Any) -> Any:
            return pytree.tree_map(lambda x: next(pending) if floating(x) else x, next(results))

        self.model.forward = answer  # found before the class's own; everything else of the model stays in reach
        try:
            return self.loss(self.model, batch)
        finally:
            del self.model.forward


class _Whole(nn.Module):
    """Model and loss in one, as ``functional_call`` wants them: a batch to losses and the results of all calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, loss: Loss) -> tuple[Tensor, list[Any]]:
        results: list[Any] = []
        with capture({"": self.model}, lambda call: results.append(call.result)):
            losses = loss(self.model, batch)
        if not results:
            raise BadInput("the loss does not call the model: expected losses of model(...)")
        return losses, results


def _floating_leaves(results: list[Any]) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(results) if floating(leaf)]
