"""Bias correction: after rounding, the mean of each channel of each layer's output is brought back to the original's.

In closed form and without labels, in one pass: layers are corrected in the order in which they run, so that each sees
the inputs that the corrected ones before it make. Layers that are called several times keep their biases.

Source: Nagel et al., Data-free quantization through weight equalization and bias correction (ICCV 2019), section 4.2.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from noworse.model.device import double
from noworse.propose.grids.compensated import nearest
from noworse.propose.grids.grid import GridSet
from noworse.propose.grids.untuned import Untuned
from noworse.survey.capture import Call, capture
from noworse.task import data
from noworse.task.data import Batch

SAMPLES, LEAST, ELEMENTS = 512, 32, 1 << 22  # of the pass that tells means: at most, at least, and of its inputs
WITH_BIAS = (nn.Linear, nn.LayerNorm, nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm)
T = TypeVar("T")
Means = Mapping[str, list[Tensor]]  # of what a layer returns, (C,) float64 for each of its calls


def samples_of(batch: Batch) -> int:
    """Return the number of samples, as large as those of ``batch``, whose means are taken in one pass."""
    elements = max(1, sum(leaf[0].numel() for leaf in data.leaves(batch)))
    return min(SAMPLES, max(LEAST, ELEMENTS // elements))


def _channel(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, _BatchNorm):
        return 1
    places = getattr(module, "kernel_size", ())  # of convolutions, whose batch dimension may be absent
    return output.dim() - 1 - len(places)


def channel_means(module: nn.Module, output: Tensor) -> Tensor:
    """Return the means (C,), float64, of a layer's output over all samples and places."""
    channel = _channel(module, output)
    return double(output).mean([d for d in range(output.dim()) if d != channel])


def _watch(module: nn.Module, names: Collection[str], see: Callable[[Call], Tensor | None], run: Callable[[], T]) -> T:
    """What ``run()`` returns while ``see`` is called after each of these layers, in order.

    Outputs of no rows have no means; those of sequences of several lengths are left alone.
    """
    layers = {name: m for name, m in module.named_modules() if name in names and isinstance(m, WITH_BIAS)}
    with capture(layers, lambda call: see(call) if call.result.numel() and not call.result.is_nested else None):
        return run()


@torch.no_grad()
def output_means(module: nn.Module, names: Collection[str], run: Callable[[], T]) -> tuple[T, Means]:
    """Return the result of ``run()``, and the means of the outputs of these layers; it passes all samples at once."""
    means: dict[str, list[Tensor]] = {}

    def remember(call: Call) -> None:
        means.setdefault(call.name, []).append(channel_means(call.layer, call.result))

    return _watch(module, names, remember, run), means


@torch.no_grad()
def _correct(module: nn.Module, wanted: Means, run: Callable[[], T], move: Callable[[Call, Tensor], Tensor]) -> T:
    """What ``run()`` returns where layers that have a bias and run once return more by ``move(call, missing)`` (C,).

    ``missing`` (C,) float64 is how far their means are from the ``wanted`` ones.
    """

    def see(call: Call) -> Tensor:
        shift = move(call, wanted[call.name][0] - channel_means(call.layer, call.result))
        shape = [1] * call.result.dim()
        shape[_channel(call.layer, call.result)] = -1
        return torch.add(call.result, shift.to(call.result).view(shape))

    biased = [name for name, layer in module.named_modules() if getattr(layer, "bias", None) is not None]
    return _watch(module, [name for name in biased if len(wanted.get(name, ())) == 1], see, run)


def with_means(module: nn.Module, names: Collection[str], wanted: Means, run: Callable[[], Tensor]) -> Tensor:
    """Return the result of ``run()`` with outputs of these layers, biased and run once, moved to ``wanted`` means."""
    chosen = {name: means for name, means in wanted.items() if name in names}
    return _correct(module, chosen, run, lambda call, missing: missing)


def correct_biases(module: nn.Module, wanted: Means, run: Callable[[], T]) -> T:
    """Move biases, in place, so that layers' outputs have the ``wanted`` means; return the result of ``run()`` then."""

    def move(call: Call, missing: Tensor) -> Tensor:
        bias: Any = call.layer.bias
        shift = missing.to(bias)
        bias += shift
        return shift

    return _correct(module, wanted, run, move)


@torch.no_grad()
def correct_means(
    student: nn.Module, grids: GridSet, values: Tensor, untuned: Untuned, run: Callable[[], object]
) -> int:
    """Move biases on grids, in place, towards the layers' means with the weights ``untuned``.

    Biases stay on their grids. ``values`` (N,) is what the student's parameters are views of; ``run()`` calls the
    student on all samples at once. Return how many biases moved.
    """
    numbers = {spec.name: k for k, spec in enumerate(grids.specs) if spec.tuned and len(spec.shape) == 1}
    names = {name.removesuffix(".bias") for name in numbers if name.endswith(".bias")}
    for k in grids.places:
        values[grids.rows[k]] = untuned.weights(k)
    grids.complete(values)
    _, means = output_means(student, names, run)
    grids.quantise(values)
    steps, zones = grids.steps().tolist(), grids.zones().tolist()
    moved = 0

    def move(call: Call, missing: Tensor) -> Tensor:
        nonlocal moved
        k = numbers[f"{call.name}.bias"]
        held = values[grids.rows[k]]
        before, wanted = held.clone(), held + missing.to(held)
        held.copy_(nearest(wanted, steps[k], zones[k]))
        grids.put_outliers(values)
        shift = held - before
        grids.set_weights(k, wanted)
        moved += int(shift.count_nonzero())
        return shift

    _correct(student, means, run, move)
    return moved
