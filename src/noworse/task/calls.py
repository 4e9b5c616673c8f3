"""Calls of what users wrote: what fails there is told in one sentence that says what was called, and with what."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from noworse.errors import BadInput, NoWorseError
from noworse.model.device import home, out_of_memory
from noworse.task import data
from noworse.task.data import Batch

Forward = Callable[[nn.Module, Batch], Tensor]


@contextmanager
def told(what: str, expected: Callable[[], str]) -> Iterator[None]:
    """Raise BadInput where anything fails in a block: ``what`` does so, and what was ``expected`` instead."""
    try:
        yield
    except NoWorseError:
        raise
    except Exception as error:  # anything may come out of the caller's code; the cause stays attached
        if out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{what} with {reason}: expected {expected()}") from error


def described(batch: Batch) -> str:
    """Return in words what a batch is."""
    form = {key: f"{_kind(t)} {tuple(t.shape)}" for key, t in data.columns(batch).items()}
    if isinstance(batch, Tensor):
        return f"a tensor of {form[0]}"
    inside = ", ".join(f"{k}: {text}" if isinstance(k, str) else text for k, text in form.items())
    return f"a {type(batch).__name__} of {inside}"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@contextmanager
def first_call(model: nn.Module, batch: Batch, forward: Forward | None) -> Iterator[None]:
    """Raise BadInput where the first call of a float32 copy of ``model``, made in a block, fails: says what to change.

    That is the dtype that its forward casts to where the model itself runs, else the way in which it is called.
    """

    def expected() -> str:
        if _runs(model, batch, forward or data.forward):
            return "a forward that casts to the dtype of its weights (self.fc.weight.dtype), not to one of its own"
        return _how(batch) if forward is None else "forward(model, batch) to return outputs (B, ..., K)"

    with told(f"calib: the model, in float32, fails on {described(batch)}", expected):
        yield


def _runs(model: nn.Module, batch: Batch, forward: Forward) -> bool:
    """Whether a model that is not float32 can be called as it is, which says that its call is right."""
    if all(p.dtype == torch.float32 for p in model.parameters() if p.is_floating_point()):
        return False
    try:
        with torch.no_grad():
            forward(model, data.copied(batch, home(model)))
    except Exception:  # then the call itself may be wrong, whatever it was
        return False
    return True


def _how(batch: Batch) -> str:
    """What was called, and what to do where that is not how the model is called."""
    given = data.inputs(batch)
    if isinstance(given, dict):
        labels = ", ".join(sorted(data.LABEL_KEYS))
        return f"model({', '.join(f'{key}=...' for key in given)}), with labels under {labels}, or a forward="
    several = "" if isinstance(batch, Tensor) else ", since all but the first tensor of a batch are labels"
    return f"model(inputs) to work{several}; for several inputs a dict, or forward=lambda model, batch: model(*batch)"
