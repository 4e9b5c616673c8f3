"""Second moments of what each linear or convolutional layer is fed: the curvature of its output error in its weights.

A convolution is a linear layer on its patches, one with groups is several of them. Where the moments of all layers
would take too much memory, the widest layers are cut into blocks of input channels, and what is between blocks counts
as zero: a layer is then several of them too, with a part of the inputs each. A recurrent layer is linear ones, those of
hidden states fed at every step (model/recurrent.py). So is attention, whose weight of queries, keys and values is three
in one (model/attention.py).
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from noworse.model import attention
from noworse.model.recurrent import opened
from noworse.survey.capture import NO_ROWS, Call, Measured, capture, columns

PLACES = 5  # where each weight of a row should have been used: fewer leave X nearly singular
NARROWEST = 64  # inputs of a block: narrower ones would save little


def blocks(layer: nn.Linear | nn.Conv2d, width: int) -> int:
    """Return the least number of blocks of equally many input channels such that none has more than ``width`` inputs.

    That is the number of channels where nothing else fits.
    """
    inputs, channels = layer.weight[0].numel(), layer.weight.shape[1]
    return next((b for b in range(1, channels) if channels % b == 0 and inputs // b <= width), channels)


def widest(layers: Sequence[nn.Linear | nn.Conv2d], limit: float) -> int:
    """Return the width of blocks, the widest layer's halved until the moments of all layers take ``limit`` bytes."""

    def size(layer: nn.Linear | nn.Conv2d) -> float:
        return 4.0 * getattr(layer, "groups", 1) * layer.weight[0].numel() ** 2 / blocks(layer, width)

    width = max((layer.weight[0].numel() for layer in layers), default=1)
    while width > NARROWEST and sum(map(size, layers)) > limit:
        width //= 2
    return width


def input_moments(
    module: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    runs: Iterable[Callable[[], object]],
    limit: float = math.inf,
    least: int = 0,
    own: Collection[str] | None = None,
) -> Measured[Tensor]:
    """Return X = E[x xᵀ] (G·B, I/B, I/B) float32 of each of ``parameters`` that is the weight of a layer, by name.

    G groups with I inputs each are cut into B blocks so that all X together take about ``limit`` bytes. Each of
    ``runs`` calls the module on some data, until after ``least`` of them every layer has seen five inputs for each
    weight of a row. Moments are taken of those of the names ``own`` alone, where these are given: all else is as if of
    all. A layer used several times is measured over all of its uses; one that is never called, or with no
    rows, is left out and listed.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    totals: dict[tuple[str, int], Tensor] = {}  # by name, and which of the layers that divide its rows among them
    counts = Counter[tuple[str, int]]()
    widths: dict[tuple[str, int], int] = {}

    def see(call: Call) -> None:
        layer, home = layers[call.name], homes[call.name]
        inputs = columns(layer, call.input.detach())
        places, parts = inputs.shape[2], blocks(layer, width)
        if not places:
            return
        counts[home] += places
        widths[home] = inputs.shape[1] // parts
        if own is None or home[0] in own:
            inputs = inputs.reshape(len(inputs) * parts, widths[home], places)
            moments = inputs @ inputs.transpose(1, 2)
            totals[home] = totals[home].add_(moments) if home in totals else moments

    with opened(module) as modules, attention.opened(module) as projections, torch.no_grad():
        kinds = (nn.Linear, nn.Conv2d)
        layers = {n: m for n, m in modules.items() if isinstance(m, kinds) and id(m.weight) in names}
        homes = {n: (names[id(layer.weight)], 0) for n, layer in layers.items()}
        for weight, thirds in projections.items():
            if name := names.get(id(module.get_parameter(weight))):
                layers |= {f"{weight}[{k}]": layer for k, layer in enumerate(thirds)}
                homes |= {f"{weight}[{k}]": (name, k) for k in range(len(thirds))}
        width = widest(list(layers.values()), limit)
        with capture(layers, see) as seen:
            for number, run in enumerate(runs, 1):
                run()
                if number >= least and all(count >= PLACES * widths[home] for home, count in counts.items()):
                    break
    empty = {n: NO_ROWS for n, home in homes.items() if home not in counts}
    found = {home: total.div_(counts[home]) for home, total in totals.items()}
    return Measured(_joined(found, dict.fromkeys(homes.values())), empty | seen.missed)


def _joined(found: dict[tuple[str, int], Tensor], homes: Collection[tuple[str, int]]) -> dict[str, Tensor]:
    """Moments by name of those of which each of ``homes`` is found; those of layers fed the same need only be one."""
    joined: dict[str, Tensor] = {}
    for name, count in Counter(name for name, _ in homes).items():
        parts = [found.pop((name, k)) for k in range(count) if (name, k) in found]
        if len(parts) == count:
            alike = all(torch.equal(parts[0], part) for part in parts[1:])
            joined[name] = parts[0] if alike else torch.cat(parts)
    return joined
