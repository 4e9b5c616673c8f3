"""Predicted against true loss changes of single weights' rounding: the sensitivity part of ``benchmarks.llc``.

``python -m benchmarks.llc_sensitivity [--quick] [--json FILE] [--check] [--only NET ...]``

Every weight of a convolution or a linear layer is rounded alone, at 2, 4 and 8 bits for each channel's largest
magnitude, on the same held-out images for prediction and truth.
"""

from __future__ import annotations

import time

from scipy.stats import spearmanr

from benchmarks.table import Row, finish, parser
from noworse.sensitivity.errors import weight_rounding
from noworse.sensitivity.measure import KINDS_OF, Runs
from zoo import fashion_mnist

CNNS = ("lenet5", "resnet20", "vgg_small", "mobilenetv2")
BITS = (2, 4, 8)
SAMPLES = 250
DEFAULT = "secant"
KINDS = (DEFAULT, "gauss-newton", "first-order", "loss")


def compare(net: str, samples: int) -> list[Row]:
    """Rank correlations of one net, over all weights and bit-widths and for each bit-width."""
    begin = time.monotonic()
    task = fashion_mnist.build(net)
    images, labels = next(iter(task.verify))
    weights = [name for name, p in task.model.named_parameters() if p.ndim > 1]
    errors = {f"{name}@{bits}": {name: weight_rounding(bits)} for name in weights for bits in BITS}
    visit = next(Runs(task.model, task.loss, [(images[:samples], labels[:samples])], errors).visits())
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for label in visit.runs.shifts:
        move = visit.move(label)
        for kind in KINDS:
            values[kind].append(KINDS_OF[kind](visit, move).mean().item())
    true = values["loss"]
    rows = []
    for kind in KINDS[:-1]:
        target = ">= 0.9" if kind == DEFAULT else ""
        rows.append(
            Row(f"{net}, {kind}: rank correlation with the truth", rank_correlation(values[kind], true), "", target)
        )
        for index, bits in enumerate(BITS):
            part = slice(index, None, len(BITS))
            rows.append(Row(f"{net}, {kind} at {bits} bits", rank_correlation(values[kind][part], true[part]), ""))
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
