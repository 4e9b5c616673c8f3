"""Second moments of what each linear or convolutional layer is fed: the curvature of its output error in its weights.

A layer y = W x with weights (O, I) that are replaced by Ŵ has the expected output error Σ_rows (ŵ − w)ᵀ X (ŵ − w),
X = E[x xᵀ], the same for every row. A convolution is such a layer on its patches, one with groups is several of them.
Where the X of all layers would take too much memory, the widest ones are cut into blocks of input channels, and moments
between blocks are taken to be zero: a layer is then several of them too, with a part of the inputs each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.model.hooks import removing

PLACES = 5  # where each weight of a row should have been used: fewer leave X nearly singular
COLUMNS = 8192  # of one batch and layer; more positions of the same few images say little
NARROWEST = 64  # inputs of a block: narrower ones would save little


def patches(layer: nn.Linear | nn.Conv2d, inputs: Tensor) -> Tensor:
    """Inputs of a layer as columns: (G, I, N), with G groups, I weights of a row and N places where they are used."""
    if isinstance(layer, nn.Linear):
        return inputs.reshape(1, -1, inputs.shape[-1]).transpose(1, 2)
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        inputs = F.pad(inputs, layer._reversed_padding_repeated_twice, _PAD_MODES[layer.padding_mode])
        padding: tuple[int, ...] = (0, 0)
    else:
        padding = layer.padding
    images = max(1, COLUMNS * inputs.shape[0] // max(1, _positions(layer, inputs, padding)))
    unfolded = F.unfold(inputs[:images], layer.kernel_size, layer.dilation, padding, layer.stride)  # (B, C·k, L)
    columns = unfolded.transpose(0, 1).flatten(1)
    return columns.view(layer.groups, -1, columns.shape[1])


_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def _positions(layer: nn.Conv2d, inputs: Tensor, padding: tuple[int, ...]) -> int:
    """Places where the kernel is used over the whole batch (an upper bound)."""
    height, width = ((n + 2 * p) // s for n, p, s in zip(inputs.shape[2:], padding, layer.stride, strict=True))
    return int(inputs.shape[0] * height * width)


def blocks(layer: nn.Linear | nn.Conv2d, width: int) -> int:
    """Into how many blocks of equally many input channels to cut a layer so that none has more than ``width`` inputs.

    As many as there are channels where nothing else fits.
    """
    inputs, channels = layer.weight[0].numel(), layer.weight.shape[1]
    return next((b for b in range(1, channels) if channels % b == 0 and inputs // b <= width), channels)


def widest(layers: Sequence[nn.Linear | nn.Conv2d], limit: float) -> int:
    """The width of blocks, halved from the widest layer's until the moments of all layers take ``limit`` bytes."""
    width = max((layer.weight[0].numel() for layer in layers), default=1)
    while width > NARROWEST and sum(_moment_bytes(layer, width) for layer in layers) > limit:
        width //= 2
    return width


def _moment_bytes(layer: nn.Linear | nn.Conv2d, width: int) -> float:
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return 4.0 * groups * layer.weight[0].numel() ** 2 / blocks(layer, width)


def input_moments(
    module: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    runs: Iterable[Callable[[], object]],
    limit: float = math.inf,
    least: int = 0,
) -> dict[str, Tensor]:
    """X = E[x xᵀ] as (G·B, I/B, I/B) float32 for each of ``parameters`` that is the weight of a layer (see above).

    G groups with I inputs each are cut into B blocks so that all X together take about ``limit`` bytes. Each of
    ``runs`` calls the module on some data, until after ``least`` of them every layer has seen five inputs for each
    weight of a row. A layer used several times is measured over all of its uses; one that is never called (its weights
    are read by other code) is left out.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d)) and id(m.weight) in names]
    width = widest(layers, limit)
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def observe(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            assert isinstance(layer, (nn.Linear, nn.Conv2d))
            columns = patches(layer, arguments[0].detach())
            columns = columns.reshape(len(columns) * blocks(layer, width), -1, columns.shape[2])
            found = columns @ columns.transpose(1, 2)
            totals[name] = totals[name].add_(found) if name in totals else found
            counts[name] = counts.get(name, 0) + columns.shape[2]

        return hook

    hooks = (layer.register_forward_pre_hook(observe(names[id(layer.weight)])) for layer in layers)
    with removing(hooks), torch.no_grad():
        for number, run in enumerate(runs, 1):
            run()
            if number >= least and all(counts[name] >= PLACES * len(total[0]) for name, total in totals.items()):
                break
    return {name: total.div_(counts[name]) for name, total in totals.items()}
