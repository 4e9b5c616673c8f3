"""A task: what a job names. A model, its per-sample loss, calibration samples that choose, held-out samples that judge.

A command-line job names a task as ``path/file.py:object`` or ``package.module:object``, where the object is a ``Task``
or a function without arguments that returns one.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from noworse.errors import BadInput, NoWorseError
from noworse.model.device import double, home, out_of_memory, placed
from noworse.model.tensors import float32_copy
from noworse.model.wrapped import require_whole, unwrapped
from noworse.task import data
from noworse.task.data import Batch, leaves, to_float32
from noworse.task.distances import parts

CLOSE = 1e-3  # of the largest output: how far rounding may move outputs between the two layouts
PROBE = 4  # samples on which the layout is tried
LAYOUTS: WeakKeyDictionary[nn.Module, list[tuple[Forward | None, bool]]] = WeakKeyDictionary()  # as far as tried
Loss = Callable[[nn.Module, Any], Tensor]
Forward = Callable[[nn.Module, Any], Tensor]
Score = Callable[[Tensor, Any], Tensor]


class Extras(TypedDict, total=False):
    """Fields that a ``Task`` may have besides model, loss and data, as keyword arguments."""

    metric: Callable[[nn.Module, Iterable[Any]], float] | None
    score: Callable[[Tensor, Any], Tensor] | None
    forward: Callable[[nn.Module, Any], Tensor] | None
    distill: str
    augment: Callable[[Any], Batch] | None
    keep: Sequence[str]
    name: str


class TaskUnavailable(NoWorseError):
    """A task cannot be built here, because a package or a file that it needs is absent."""


@dataclass(frozen=True)
class Task:
    """A model with its loss, and the data that choose and judge; BadInput where a part has the wrong type.

    A batch is a tensor (the model's input), a tuple or list (its input, then labels), or a mapping, of which all but
    "labels", "label" and "targets" goes to the model by keyword; samples lie along dimension 0. docs/tasks.md has more.
    """

    model: nn.Module  # in any mode; never changed; compiled and parallel modules are unwrapped
    loss: Callable[[nn.Module, Any], Tensor]  # of model and batch -> (B,), one loss per sample: what decides
    calib: Iterable[Batch]  # chooses: a few hundred samples or more, labels not needed
    verify: Iterable[Batch]  # judges: disjoint from calib
    metric: Callable[[nn.Module, Iterable[Any]], float] | None = None  # of model and batches: for reading only
    score: Score | None = None  # instead of metric: of outputs and batch -> (B,), numbers whose mean is the metric
    forward: Callable[[nn.Module, Any], Tensor] | None = None  # of model and batch -> outputs to compare (B, ..., K)
    distill: str = "kl"  # "kl": logits of K >= 2 classes; "mse": numbers; "cosine"; or parts of K: "kl:11+mse:4"
    augment: Callable[[Any], Batch] | None = None  # of a batch of calib -> a random variation of it
    keep: Sequence[str] = ()  # patterns of tensors that are stored losslessly, such as "head.*"
    name: str = ""
    default_dtype: torch.dtype = field(default_factory=torch.get_default_dtype, init=False, repr=False)  # the caller's
    own: nn.Module = field(init=False, repr=False)  # the caller's, where ``model`` is a copy of it on another device

    def __post_init__(self) -> None:
        require_whole(self.model, "the model of a task")
        object.__setattr__(self, "model", unwrapped(self.model))
        object.__setattr__(self, "own", self.model)
        for name in ("loss", "metric", "score", "forward", "augment"):
            value = getattr(self, name)
            if not callable(value) and (value is not None or name == "loss"):
                raise BadInput(f"{name} of a task is {type(value).__name__}: expected a function")
        if self.metric is not None and self.score is not None:
            raise BadInput("a task has both metric and score: expected one of them, as both give the metric")
        try:
            parts(self.distill)
        except BadInput as error:
            raise BadInput(f"distill of a task is {error}") from error
        if isinstance(self.keep, str) or not all(isinstance(pattern, str) for pattern in self.keep):
            raise BadInput(f"keep of a task is {self.keep!r}: expected a list of patterns such as 'head.*'")

    def on(self, device: object = None) -> Task:
        """Return the task with its model on a ``device``, in a copy where it is elsewhere; batches follow when used.

        BadInput for a device that cannot be used and, without one, for a model on several.
        """
        moved = replace(self, model=placed(self.model, device))
        object.__setattr__(moved, "own", self.own)
        object.__setattr__(moved, "default_dtype", self.default_dtype)
        return moved

    def outputs(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return outputs (B, ..., K) of a model on a batch in float32, by ``forward`` where there is one."""
        return (self.forward or data.forward)(module, self.prepared(batch))

    def prepared(self, batch: Batch) -> Batch:
        """Return a batch as models are fed it while they are compressed: where the model is, in float32.

        Images have the layout that is faster. Which layout the model takes is tried on the first batch.
        """
        return data.to_float32(batch, self.channels_last(batch), home(self.model))

    def channels_last(self, batch: Batch) -> bool:
        """Return whether images and kernels are laid out with channels last (task/task.py)."""
        known = LAYOUTS.setdefault(self.model, [])
        layout = next((layout for forward, layout in known if forward is self.forward), None)
        if layout is None:
            probe = data.select(batch, slice(0, PROBE))
            layout = takes_channels_last(self.model, probe, self.forward or data.forward)
            known.append((self.forward, layout))
        return layout

    def prepared_loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the task's losses (B,) of a model on a batch as ``prepared``."""
        return self.loss(module, self.prepared(batch))

    def labelled_losses(self, module: nn.Module, batch: Batch, what: str) -> Tensor:
        """Return losses (B,) on a batch of calib; BadInput, that ``what`` needs calib with labels, where they fail."""
        try:
            return self.prepared_loss(module, batch)
        except Exception as error:  # anything may come out of the caller's code; the cause stays attached
            if out_of_memory(error):
                raise
            raise BadInput(f"{what} needs calib with labels: the loss fails on it: {error}") from error


def check_losses(losses: Any, samples: int, where: str) -> Tensor:
    """Return losses (B,) without their graph; BadInput naming ``where`` unless they are a finite number per sample."""
    expected = f"expected one loss per sample, shape ({samples},)"
    if not isinstance(losses, Tensor):
        raise BadInput(f"loss of {where} is {type(losses).__name__}: {expected}")
    if losses.ndim == 0:
        raise BadInput(f"loss of {where} is a single number: {expected} (reduction='none')")
    if losses.shape != (samples,):
        raise BadInput(f"loss of {where} has shape {tuple(losses.shape)}: {expected}")
    if losses.is_complex():
        raise BadInput(f"loss of {where} is {losses.dtype}: expected real numbers")
    bad = samples - int(torch.isfinite(losses).sum())
    if bad:
        raise BadInput(f"loss of {where} is NaN or infinite for {bad} of {samples} samples: expected finite losses")
    return losses.detach()


def load_task(address: str) -> Task:
    """Return the task at ``path/file.py:object`` or ``package.module:object``; BadInput says what is wrong with it.

    TaskUnavailable passes through. Imports resolve as they would for ``python path/file.py`` (the file's folder, or
    the folder around its package), or for ``python -m package.module`` in the working directory.
    """
    place, separator, attribute = address.rpartition(":")
    if not separator or not place or not attribute:
        raise BadInput(f"{address!r} names no task: expected path/file.py:object or package.module:object")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place, Path.cwd())
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise BadInput(f"{place} has no {attribute!r}: expected one of {_candidates(module)}")
        found = getattr(found, part)
    task = found if isinstance(found, Task) else _build(found, address)
    return task if task.name else replace(task, name=address)


def _build(found: Any, address: str) -> Task:
    if not callable(found):
        raise BadInput(f"{address} is {type(found).__name__}: expected a Task or a function returning one")
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError) as error:
        raise BadInput(f"{address} cannot be called without arguments: {error}") from error
    task = _guard(found, f"{address} failed with")
    if not isinstance(task, Task):
        raise BadInput(f"{address} returned {type(task).__name__}: expected a Task")
    return task


def _candidates(module: ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, Task) or (inspect.isfunction(value) and value.__module__ == module.__name__))
    ]
    return ", ".join(sorted(own)) or "(nothing: the module defines no tasks)"


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise BadInput(f"{path} is no file: expected the Python file of a task")
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    if len(parts) == 1:
        # a private name: a task file called data.py or json.py must neither shadow nor be shadowed
        return _import_module(f"_noworse_task_{path.stem}", root, path)
    module = _import_module(".".join(parts), root)
    if Path(module.__file__ or "").resolve() != path:
        raise BadInput(f"{'.'.join(parts)} was imported from {module.__file__}: expected {path}")
    return module


def _import_module(name: str, root: Path, file: Path | None = None) -> ModuleType:
    """Import what has a name below ``root``, or a ``file`` under that name."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    if file is None:
        module: ModuleType = _guard(lambda: importlib.import_module(name), f"{name} cannot be imported:")
        return module
    spec: Any = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # pickling to workers looks it up there
    _guard(lambda: spec.loader.exec_module(module), f"{file} cannot be imported:")
    return module


def _guard(action: Callable[[], Any], what: str) -> Any:
    try:
        return action()
    except NoWorseError:
        raise
    except Exception as error:  # anything may come out of the caller's code; the cause stays attached
        raise BadInput(f"{what} {type(error).__name__}: {error}") from error


def takes_channels_last(model: nn.Module, batch: Batch, forward: Callable[[nn.Module, Batch], Tensor]) -> bool:
    """Return whether ``model`` computes the same on images, and with kernels, whose channels come last.

    It does not where a forward calls ``view`` on what a convolution returns, as many do before their first linear
    layer. Models without images and without kernels of convolutions may as well be told that they do.
    """
    tensors, device = [*leaves(batch), *model.parameters()], home(model)
    if not any(tensor.ndim == 4 and tensor.is_floating_point() for tensor in tensors):
        return True
    with torch.no_grad():
        plain = float32_copy(model, share=True)
        expected = forward(plain, to_float32(batch, False, device))  # where this fails, the model is at fault
        moved: Any = float32_copy(model)
        try:
            found = forward(moved.to(memory_format=torch.channels_last), to_float32(batch, True, device))
        except RuntimeError:  # torch's, of a view that is none in this layout
            return False
    apart = float((double(found) - double(expected)).abs().max()) if found.numel() else 0.0
    return apart <= CLOSE * float(expected.abs().max())
