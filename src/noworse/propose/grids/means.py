"""Bias correction: after rounding, the mean of each channel of each layer's output is brought back to the original's.

Rounding errors of a row add up in one direction where inputs are not centred, as after a ReLU: outputs shift. The shift
is what the biases can undo, in closed form and without labels. Layers are corrected in the order in which they run, in
one pass, so that each sees the inputs that the corrected ones before it make. Biases stay on their grids.

Source: Nagel et al., Data-free quantization through weight equalization and bias correction (ICCV 2019), section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from noworse.propose.grids.compensated import nearest
from noworse.propose.grids.grid import GridSet
from noworse.survey.capture import Call, capture
from noworse.task import data
from noworse.task.data import Batch

SAMPLES, LEAST, ELEMENTS = 512, 32, 1 << 22  # of the pass that tells means: at most, at least, and of its inputs
LAST = (nn.Linear, nn.LayerNorm)  # channels are the last dimension of their outputs; of the others the second one
SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm)
T = TypeVar("T")
Means = Mapping[str, list[Tensor]]  # of what a layer returns, (C,) float64 for each of its calls


def samples_of(batch: Batch) -> int:
    """How many samples like those of ``batch`` means are taken of, in one pass."""
    elements = max(1, sum(leaf[0].numel() for leaf in data.leaves(batch)))
    return min(SAMPLES, max(LEAST, ELEMENTS // elements))


def _channel(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):  # there may be no batch dimension before it
        return output.dim() - 1 - len(module.kernel_size)
    return output.dim() - 1 if isinstance(module, LAST) else 1


def channel_means(module: nn.Module, output: Tensor) -> Tensor:
    """Means (C,) of a layer's output over all samples and places."""
    channel = _channel(module, output)
    return output.double().mean([d for d in range(output.dim()) if d != channel])


def shifted(module: nn.Module, output: Tensor, shift: Tensor) -> Tensor:
    """A layer's output with ``shift`` (C,) on its channels."""
    shape = [1] * output.dim()
    shape[_channel(module, output)] = -1
    return output + shift.to(output).view(shape)


def _watch(
    module: nn.Module,
    names: Collection[str],
    see: Callable[[str, nn.Module, Tensor], Tensor | None],
    run: Callable[[], T],
) -> T:
    """What ``run()`` returns while ``see`` is called with name, layer and output of each of these layers, in order.

    Outputs of no rows have no means; those of sequences of several lengths are left alone.
    """
    kinds = (*LAST, *SECOND)
    layers = {name: m for name, m in module.named_modules() if name in names and isinstance(m, kinds)}

    def seen(call: Call) -> Tensor | None:
        output = call.result
        return see(call.name, call.layer, output) if output.numel() and not output.is_nested else None

    with capture(layers, seen):
        return run()


@torch.no_grad()
def output_means(module: nn.Module, names: Collection[str], run: Callable[[], T]) -> tuple[T, Means]:
    """What ``run()`` returns, and the means of what these layers do; it calls the module on all samples at once."""
    means: dict[str, list[Tensor]] = {}

    def remember(name: str, layer: nn.Module, output: Tensor) -> None:
        means.setdefault(name, []).append(channel_means(layer, output))

    return _watch(module, names, remember, run), means


@torch.no_grad()
def with_means(module: nn.Module, names: Collection[str], wanted: Means, run: Callable[[], Tensor]) -> Tensor:
    """What ``run()`` returns if these layers, where they have a bias and run once, return what has ``wanted`` means."""
    def correct(name: str, layer: nn.Module, output: Tensor) -> Tensor:
        return shifted(layer, output, wanted[name][0] - channel_means(layer, output))

    return _watch(module, _movable(module, wanted) & set(names), correct, run)


def _movable(module: nn.Module, wanted: Means) -> set[str]:
    """Layers that have a bias and run once."""
    once = {name for name, means in wanted.items() if len(means) == 1}
    return {name for name, layer in module.named_modules() if name in once and getattr(layer, "bias", None) is not None}


@torch.no_grad()
def correct_biases(module: nn.Module, wanted: Means, run: Callable[[], T]) -> T:
    """Move biases, in place, so that layers return what has the ``wanted`` means; what ``run()`` then returns.

    Layers that are called several times keep their biases.
    """

    def correct(name: str, layer: nn.Module, output: Tensor) -> Tensor:
        bias = layer.bias
        assert isinstance(bias, Tensor)
        shift = (wanted[name][0] - channel_means(layer, output)).to(bias)
        bias += shift
        return shifted(layer, output, shift)

    return _watch(module, _movable(module, wanted), correct, run)


@torch.no_grad()
def correct_means(
    student: nn.Module, grids: GridSet, values: Tensor, untuned: tuple[Tensor, ...], run: Callable[[], object]
) -> int:
    """``correct_biases`` on grids, towards the means with the weights ``untuned`` (``GridSet.state``); how many moved.

    ``values`` (N,) is what the student's parameters are views of; ``run()`` calls the student on all samples at once.
    """
    numbers = {spec.name: k for k, spec in enumerate(grids.specs) if spec.tuned and len(spec.shape) == 1}
    names = {name.removesuffix(".bias") for name in numbers if name.endswith(".bias")}
    tuned = grids.state()
    grids.restore(untuned)
    for k in range(len(grids.specs)):
        values[grids.offsets[k] : grids.offsets[k + 1]] = grids.weights(k)
    grids.restore(tuned)
    _, means = output_means(student, names, run)
    grids.quantise(values)
    steps, zones = grids.steps().tolist(), grids.zones().tolist()
    moved = 0

    def correct(name: str, layer: nn.Module, output: Tensor) -> Tensor:
        nonlocal moved
        k = numbers[f"{name}.bias"]
        rows = slice(grids.offsets[k], grids.offsets[k + 1])
        before = values[rows].clone()
        wanted = before + (means[name][0] - channel_means(layer, output)).float()
        values[rows] = nearest(wanted, steps[k], zones[k])
        grids.set_weights(k, wanted)
        moved += int((values[rows] != before).sum())
        return shifted(layer, output, values[rows] - before)

    _watch(student, _movable(student, means), correct, run)
    return moved
