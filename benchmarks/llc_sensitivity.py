"""Predicted against true loss changes of single weights' rounding: the sensitivity part of ``benchmarks.llc``.

``python -m benchmarks.llc_sensitivity [--quick] [--json FILE] [--check] [--only NET ...]``

Every weight of a convolution or a linear layer is rounded alone, at 2, 4 and 8 bits for each channel's largest
magnitude, on the same held-out images for prediction and truth.
"""

from __future__ import annotations

import time

import torch
from scipy.stats import spearmanr

from benchmarks.table import Row, finish, parser
from noworse.sensitivity.errors import weight_rounding
from noworse.sensitivity.measure import Runs
from zoo import fashion_mnist

CNNS = ("lenet5", "resnet20", "vgg_small", "mobilenetv2")
BITS = (2, 4, 8)
SAMPLES = 250


def compare(net: str, samples: int) -> list[Row]:
    """Rank correlations of one net, over all weights and bit-widths and for each bit-width."""
    begin = time.monotonic()
    task = fashion_mnist.build(net)
    images, labels = next(iter(task.verify))
    weights = [name for name, p in task.model.named_parameters() if p.ndim > 1]
    errors = {f"{name}@{bits}": {name: weight_rounding(bits)} for name in weights for bits in BITS}
    visit = next(Runs(task.model, task.loss, [(images[:samples], labels[:samples])], errors).visits())
    model = visit.runs.model
    first, both, true = [], [], []
    for label in visit.runs.shifts:
        move = visit.move(label)
        slope, tangents = model.tangents(visit.batch, move)
        curvature = model.output_curvature(visit.batch, visit.outputs, tangents)
        with torch.no_grad():
            change = model.at(visit.batch, move)[0] - visit.losses
        first.append(slope.mean().item())
        both.append((slope + curvature / 2).mean().item())
        true.append(change.mean().item())
    rows = [
        Row(f"{net}: rank correlation of the default with the truth", rank_correlation(both, true), "", ">= 0.9"),
        Row(f"{net}: rank correlation of first order alone", rank_correlation(first, true), ""),
    ]
    for index, bits in enumerate(BITS):
        part = slice(index, None, len(BITS))
        for what, values in (("the default", both), ("first order alone", first)):
            rows.append(Row(f"{net} at {bits} bits: {what}", rank_correlation(values[part], true[part]), ""))
    return [*rows, Row(f"{net}: time", time.monotonic() - begin, "s")]


def rank_correlation(predicted: list[float], true: list[float]) -> float:
    """Spearman's."""
    return float(spearmanr(predicted, true)[0])


def rows(quick: bool, only: list[str] | None = None) -> list[Row]:
    """The rows of all convolutional nets, or of the smallest."""
    nets = only or (CNNS[:1] if quick else CNNS)
    return [row for net in nets for row in compare(net, 50 if quick else SAMPLES)]


def main() -> None:
    options_of = parser(__doc__ or "")
    options_of.add_argument("--only", nargs="*", help="these nets alone")
    options = options_of.parse_args()
    finish(rows(options.quick, options.only), options)


if __name__ == "__main__":
    main()
