"""What layers are fed and return while a model runs: the one place where hooks look at that.

Layers are called by keyword, without a batch dimension, with no rows at all (an expert that nothing is routed to), with
nested or sparse tensors, several times, never. A caller of ``capture`` writes one function of one ``Call``. What cannot
be seen raises ``Unseen`` there, which ends nothing: the layer is listed with the reason in ``Seen.missed``.

Hooks cannot see a layer whose weight is read by other code. ``nn.MultiheadAttention`` does so with all of its weights,
and the fast paths of transformer layers with all of theirs, but these are not taken while hooks are registered.
Recurrent layers do so, too. Both are seen while they are ``opened`` (model/recurrent.py, model/attention.py).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.model.hooks import first_tensor, removing, with_first
from noworse.model.recurrent import opened

NEVER = "calib never calls its layer: it is idle, or other code reads its weight"
NO_ROWS = "calib calls its layer with nothing in a batch"
COLUMNS = 8192  # of one batch and convolution; more positions of the same few images say little
PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
T = TypeVar("T")


class Unseen(Exception):
    """Why a call tells nothing of a layer; the message follows the layer's name in reports."""


@dataclass(frozen=True)
class Call:
    """One call of a layer: its name, and what it was given and returned."""

    name: str
    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any = None

    @property
    def input(self) -> Tensor:
        """The first tensor that the layer was given; Unseen where there is none."""
        first = first_tensor(self.args, self.kwargs)
        if first is None:
            given = ", ".join(type(value).__name__ for value in (*self.args, *self.kwargs.values()))
            raise Unseen(f"it is fed no tensor but {given or 'nothing'}")
        return first

    def backward(self, see: Callable[[Tensor], None]) -> None:
        """Call ``see`` with the gradient at the result, once a backward pass reaches it."""
        self.result.register_hook(see)


@dataclass
class Seen:
    """How often each layer was called, and the layers of which nothing, or not all, was seen, with the reason."""

    calls: dict[str, int]
    missed: dict[str, str] = field(default_factory=dict)


class Measured(dict[str, T]):
    """Results by name; ``missed`` says of which layers nothing, or not all, was seen, and why."""

    def __init__(self, results: Mapping[str, T], missed: Mapping[str, str]) -> None:
        super().__init__(results)
        self.missed = dict(missed)


@contextmanager
def capture(
    layers: Mapping[str, nn.Module],
    see: Callable[[Call], object] = lambda call: None,
    *,
    enter: Callable[[Call], object] = lambda call: None,
    own: bool = False,
) -> Iterator[Seen]:
    """Call ``see`` after, and ``enter`` before, every call of these layers in the block.

    What ``see`` returns, unless None, is passed on in place of the layer's result. Results are those that the rest of
    the model gets; with ``own`` they are those of the layer itself, before other hooks of it change them.
    """
    seen = Seen(dict.fromkeys(layers, 0))

    def before(name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        enter(Call(name, layer, args, kwargs))

    def after(name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> object:
        seen.calls[name] += 1
        try:
            return see(Call(name, layer, args, kwargs, result))
        except Unseen as reason:
            seen.missed[name] = str(reason)
            return None

    handles: list[Any] = []
    for name, layer in layers.items():
        if isinstance(layer, torch.jit.ScriptModule):
            raise BadInput(f"module {name!r} is a {type(layer).__name__}, which takes no hooks: expected an nn.Module")
        handles.append(layer.register_forward_hook(partial(after, name), with_kwargs=True, prepend=own))
        handles.append(layer.register_forward_pre_hook(partial(before, name), with_kwargs=True))
    with removing(handles):
        yield seen
    seen.missed |= {name: NEVER for name, count in seen.calls.items() if not count}


@contextmanager
def watching(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Yield a mapping that fills, in the block, with the results of these submodules ("" is the module itself)."""
    results: dict[str, list[Any]] = {}
    layers = {name: module.get_submodule(name) for name in names}
    with capture(layers, lambda call: results.setdefault(call.name, []).append(call.result)):
        yield results


@contextmanager
def feeding(layers: Mapping[str, nn.Module], change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """Feed these layers, in the block, what ``change(name, input)`` makes of the first real-valued tensor they get.

    BadInput for a layer that gets none.
    """

    def enter(name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = with_first(args, kwargs, partial(change, name))
        if given is None:
            kind = getattr(first_tensor(args, kwargs), "dtype", "no tensors")
            raise BadInput(f"layer {name!r} is fed {kind}: expected a floating-point input to move")
        return given

    with removing(m.register_forward_pre_hook(partial(enter, n), with_kwargs=True) for n, m in layers.items()):
        yield


@contextmanager
def gradients(parameters: Mapping[str, nn.Parameter], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call ``see`` with name and gradient of each parameter, in the block, once it is known; none is kept."""

    def take(name: str, parameter: nn.Parameter) -> None:
        gradient, parameter.grad = parameter.grad, None  # no two gradients are held together
        if gradient is not None:
            see(name, gradient)

    watched: Mapping[str, Any] = parameters  # torch leaves the method without types
    with removing(p.register_post_accumulate_grad_hook(partial(take, n)) for n, p in watched.items()):
        yield


def dense(values: Tensor) -> Tensor:
    """Return a nested or sparse tensor as an ordinary one, a nested tensor (B, T, C) as (B·T, C)."""
    if values.is_nested:
        return torch.cat([part.flatten(0, -2) for part in values.unbind()])
    return values if values.layout == torch.strided else values.to_dense()


def rows(values: Tensor, width: int) -> Tensor:
    """Return what a layer of ``width`` inputs is fed, or one of as many outputs returns, as rows (N, width), N >= 0."""
    values = dense(values)
    if not values.is_floating_point() or values.dim() == 0 or values.shape[-1] != width:
        raise Unseen(f"it is fed {tuple(values.shape)} {values.dtype}: expected real numbers (..., {width})")
    return values.reshape(-1, width)


def columns(layer: nn.Linear | nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return inputs of a layer as columns (G, I, N): G groups, I weights of a row and N places where they are used.

    Unseen where the layer's weight cannot be what these inputs are multiplied with.
    """
    if isinstance(layer, nn.Linear):
        return rows(inputs, layer.weight.shape[1]).unsqueeze(0).transpose(1, 2)
    channels = layer.weight.shape[1] * layer.groups
    if inputs.is_nested or inputs.dim() not in (3, 4) or inputs.shape[-3] != channels:
        shape = "images of different sizes" if inputs.is_nested else tuple(inputs.shape)
        raise Unseen(f"it is fed {shape}: expected images (B, {channels}, H, W)")
    images = inputs if inputs.dim() == 4 else inputs.unsqueeze(0)
    if not len(images):
        return images.new_zeros(layer.groups, layer.weight[0].numel(), 0)
    padding: Any = layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str):
        images = F.pad(images, layer._reversed_padding_repeated_twice, PAD_MODES[layer.padding_mode])
        padding = (0, 0)
    sides = zip(images.shape[2:], padding, layer.stride, strict=True)
    places = math.prod((n + 2 * p) // s for n, p, s in sides)  # where the kernel is used: an upper bound
    some = max(1, COLUMNS // max(1, places))
    unfolded = F.unfold(images[:some], layer.kernel_size, layer.dilation, padding, layer.stride)  # (B, C·k, L)
    patches = unfolded.transpose(0, 1).flatten(1)
    return patches.view(layer.groups, -1, patches.shape[1])


@torch.no_grad()
def count_flops(module: nn.Module, run: Callable[[nn.Module], object], samples: int) -> int:
    """Return floating-point operations per sample of linear, recurrent and convolutional layers, two per product.

    ``run(module)`` makes one forward pass of ``samples`` samples. Layers are counted each time they are called.
    """
    total = 0

    def see(call: Call) -> None:
        nonlocal total
        weight: Tensor = call.layer.weight  # type: ignore[assignment]
        total += 2 * call.result.numel() * weight[0].numel()

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    with opened(module) as modules, capture({n: m for n, m in modules.items() if isinstance(m, kinds)}, see):
        run(module)
    return total // samples
