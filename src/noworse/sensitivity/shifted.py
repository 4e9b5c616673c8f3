"""A model whose weights and layer inputs are moved by errors: losses and outputs as functions of how far.

The losses ℓ(t) are those of weights w + t δ and of layer inputs h + t ε, with errors that stay what they are on the
unmoved model while t changes (LLC, Eq. 3). Layers are moved by hooks, so that nothing is traced. The errors that
compression makes, rounding and truncation to a rank, are functions of the tensor.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from noworse.errors import BadInput
from noworse.model.device import home, placed
from noworse.model.hooks import floating
from noworse.model.quantized import WAYS
from noworse.model.tensors import dense_gradients, twin
from noworse.survey.capture import capture, feeding
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.task import Loss, check_losses

Error: TypeAlias = Tensor | Callable[[Tensor], Tensor]  # or what makes it of the tensor, such as x -> round(x) - x
Shift: TypeAlias = Mapping[str, Error]  # several places that are moved together
Move: TypeAlias = Mapping[str, list[Tensor]]  # errors by place: one of a parameter, one for each call of a layer


class ShiftedModel:
    """A copy of a model in eval mode, with its per-sample loss; the caller's model is not touched."""

    def __init__(
        self, model: nn.Module, loss: Loss, dtype: torch.dtype = torch.float32, device: object = None
    ) -> None:
        self.model = twin(placed(model, device)).eval().requires_grad_(False).to(dtype)
        dense_gradients(self.model)
        self.loss, self.dtype = loss, dtype
        self.zero = torch.zeros((), dtype=dtype, device=home(self.model))  # nothing is moved
        self.parameters = dict(self.model.named_parameters(remove_duplicate=False))
        self.layers = dict(self.model.named_modules(remove_duplicate=False))
        self._whole = _Whole(self.model)
        self._results: list[Any] = []  # of the model's calls when it was last observed

    def batch(self, batch: Batch) -> Batch:
        """Return the batch in the model's floating-point type and on its device."""
        device = self.zero.device
        return data.apply(batch, lambda x: x.to(device, self.dtype) if x.is_floating_point() else x.to(device))

    def check(self, shift: Shift, label: str) -> None:
        """Raise BadInput unless every place is a parameter or a layer of the model, with an error that fits."""
        if not shift:
            raise BadInput(f"errors[{label!r}] names no tensor: expected at least one")
        for name, error in shift.items():
            if name not in self.parameters and name not in self.layers:
                raise BadInput(f"errors[{label!r}] names {name!r}: expected a parameter or a layer of the model")
            if not isinstance(error, Tensor) and not callable(error):
                kind = type(error).__name__
                raise BadInput(f"the error of {name!r} is {kind}: expected a tensor or a function of the tensor")
            if name in self.parameters and not self.parameters[name].is_floating_point():
                raise BadInput(f"{name!r} is {self.parameters[name].dtype}: expected a floating-point parameter")

    def observe(self, batch: Batch, places: list[str], where: str) -> tuple[Tensor, list[Tensor], dict[str, Any]]:
        """Return losses (B,), outputs, and the tensors of each of ``places``, nothing being moved.

        These are the parameter itself, or what the layer is fed call after call. BadInput names ``where`` losses fail.
        """
        seen: dict[str, list[Tensor]] = {
            name: [self.parameters[name]] if name in self.parameters else [] for name in places
        }

        def see(name: str, inputs: Tensor) -> Tensor:
            seen[name].append(inputs.detach().clone())  # the layer may write into its input
            return inputs

        layers = {name: self.layers[name] for name in places if name not in self.parameters}
        with torch.no_grad(), feeding(layers, see):
            losses, self._results = self._whole(batch, self.loss)
        check_losses(losses, data.batch_size(batch), where)
        return losses, _floating_leaves(self._results), seen

    def at(
        self, batch: Batch, move: Move, t: Tensor | float = 1.0, loss: Loss | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return losses (B,), or what another loss gives, and outputs with everything moved t times its error."""
        weights = {f"model.{n}": self.parameters[n] + t * move[n][0] for n in move if n in self.parameters}
        calls = {name: iter(errors) for name, errors in move.items() if name not in self.parameters}
        with feeding({n: self.layers[n] for n in calls}, lambda name, inputs: inputs + t * next(calls[name])):
            losses, results = functional_call(self._whole, weights, (batch, loss or self.loss))
        return losses, _floating_leaves(results)

    def replay(self, batch: Batch, outputs: list[Tensor]) -> Tensor:
        """Return the losses (B,) if the model's calls, as last observed, returned these outputs."""
        pending, results = iter(outputs), iter(self._results)

        def answer(*args: Any, **kwargs: Any) -> Any:
            return pytree.tree_map(lambda x: next(pending) if floating(x) else x, next(results))

        self.model.forward = answer  # goes before the class's own; everything else of the model stays in reach
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
    return list(filter(floating, pytree.tree_leaves(results)))


def error_of(name: str, error: Error, tensor: Tensor) -> Tensor:
    """Return the error of a tensor at the place ``name`` in its shape and type; BadInput where it has none."""
    with torch.no_grad():
        given = error if isinstance(error, Tensor) else error(tensor.clone())
    if not isinstance(given, Tensor):
        raise BadInput(f"the error of {name!r} is {type(given).__name__}: expected a tensor")
    try:
        fitting = given.detach().to(tensor).expand(tensor.shape)
    except RuntimeError as problem:
        shapes = f"{tuple(given.shape)}: expected {tuple(tensor.shape)}"
        raise BadInput(f"the error of {name!r} has shape {shapes}") from problem
    if not bool(torch.isfinite(fitting).all()):
        raise BadInput(f"the error of {name!r} is NaN or infinite: expected finite numbers")
    return fitting


def weight_rounding(bits: int, rounding: str = "nearest") -> Callable[[Tensor], Tensor]:
    """Return the error of weights (O, ...) on 2^bits − 1 symmetric levels up to each row's largest, as a function."""
    top = 2 ** (bits - 1) - 1

    def error(weights: Tensor) -> Tensor:
        rows = weights.reshape(len(weights) if weights.ndim > 1 else 1, -1)
        step = rows.abs().amax(1, keepdim=True) / top
        step = torch.where(step > 0, step, 1.0)
        levels = WAYS[rounding](rows / step).clamp(-top, top)
        return (levels * step - rows).reshape(weights.shape)

    return error


def input_rounding(bits: int, rounding: str = "nearest") -> Callable[[Tensor], Tensor]:
    """Return the error of activations on 2^bits levels between their extremes, zero being one, as a function."""

    def error(inputs: Tensor) -> Tensor:
        low, high = inputs.amin().clamp_max(0), inputs.amax().clamp_min(0)
        step = (high - low) / (2**bits - 1)
        step = torch.where(step > 0, step, 1.0)
        bottom = torch.round(low / step)
        levels = WAYS[rounding](inputs / step).clamp(bottom, bottom + 2**bits - 1)
        return levels * step - inputs

    return error


def truncation(share: float) -> Callable[[Tensor], Tensor]:
    """Return the error of the nearest weights of ``share`` of the rank where factors save nothing, as a function."""

    def error(weights: Tensor) -> Tensor:
        matrix = weights.reshape(len(weights), -1)
        rank = max(1, int(share * matrix.numel() / sum(matrix.shape)))
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return -((left[:, rank:] * values[rank:]) @ right[rank:]).reshape(weights.shape)  # type: ignore[no-any-return]

    return error
