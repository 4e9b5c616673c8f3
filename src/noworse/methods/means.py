"""Bias correction: after rounding, the mean of each channel of each layer's output is brought back to the original's.

Rounding errors of a row add up in one direction where inputs are not centred, as after a ReLU: outputs shift. The shift
is what the biases can undo, in closed form and without labels. Layers are corrected in the order in which they run, in
one pass, so that each sees the inputs that the corrected ones before it make. Biases stay on their grids.

Source: Nagel et al., Data-free quantization through weight equalization and bias correction (ICCV 2019), section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from noworse.methods.grid import GridSet
from noworse.methods.obs import nearest
from noworse.model.hooks import removing

LAST = (nn.Linear, nn.LayerNorm)  # channels are the last dimension of their outputs; of the others the second one
SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm)


def _channel(module: nn.Module, output: Tensor) -> int:
    return output.dim() - 1 if isinstance(module, LAST) else 1


def channel_means(module: nn.Module, output: Tensor) -> Tensor:
    """Means (C,) of a layer's output over all samples and places."""
    channel = _channel(module, output)
    return output.double().mean([d for d in range(output.dim()) if d != channel])


def _watch(
    student: nn.Module,
    grids: GridSet,
    see: Callable[[str, int, nn.Module, Tensor], Tensor | None],
    run: Callable[[], object],
) -> None:
    """Call ``see`` with name, number of the bias, layer and output of each layer whose bias is among the grids."""
    numbers = {spec.name: k for k, spec in enumerate(grids.specs) if spec.tuned and len(spec.shape) == 1}
    layers = [(name, module) for name, module in student.named_modules() if f"{name}.bias" in numbers]
    hooks = [
        module.register_forward_hook(
            lambda layer, _, output, name=name: see(name, numbers[f"{name}.bias"], layer, output)
        )
        for name, module in layers if isinstance(module, (*LAST, *SECOND))
    ]  # fmt: skip
    with removing(hooks):
        run()


@torch.no_grad()
def correct_means(
    student: nn.Module, grids: GridSet, values: Tensor, untuned: tuple[Tensor, ...], run: Callable[[], object]
) -> int:
    """Move biases so that means of outputs are those with the weights ``untuned`` (``GridSet.state``); how many moved.

    ``values`` (N,) is what the student's parameters are views of; ``run()`` calls the student on all samples at once.
    Layers that are called several times keep their biases.
    """
    tuned = grids.state()
    grids.restore(untuned)
    for k in range(len(grids.specs)):
        values[grids.offsets[k] : grids.offsets[k + 1]] = grids.weights(k)
    grids.restore(tuned)
    means: dict[str, list[Tensor]] = {}

    def remember(name: str, k: int, layer: nn.Module, output: Tensor) -> None:
        means.setdefault(name, []).append(channel_means(layer, output))

    _watch(student, grids, remember, run)
    grids.quantise(values)
    steps, zones = grids.steps().tolist(), grids.zones().tolist()
    moved = 0

    def correct(name: str, k: int, layer: nn.Module, output: Tensor) -> Tensor | None:
        nonlocal moved
        if len(means[name]) > 1:
            return None
        rows = slice(grids.offsets[k], grids.offsets[k + 1])
        before = values[rows].clone()
        wanted = before + (means[name][0] - channel_means(layer, output)).float()
        values[rows] = nearest(wanted, steps[k], zones[k])
        grids.set_weights(k, wanted)
        moved += int((values[rows] != before).sum())
        shape = [1] * output.dim()
        shape[_channel(layer, output)] = -1
        return output + (values[rows] - before).view(shape)

    _watch(student, grids, correct, run)
    return moved
