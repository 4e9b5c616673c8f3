"""Predicted against true loss changes of single weights' rounding: the sensitivity part of ``benchmarks.llc``.

``python -m benchmarks.llc_sensitivity [--quick] [--json FILE] [--check] [--only NET ...] [--split development]``

Every weight of a convolution or a linear layer is rounded alone, at 2, 4 and 8 bits for each channel's largest
magnitude. Kinds of sensitivity are measured on 250 held-out images and judged by the true change of the loss on all
others, and by the KL divergence to the unmoved net on them: at 8 bits, and for robust layers at 4, the loss changes by
less than the luck of labels moves it on thousands of images, and only the divergence tells layers apart. The default
kind was chosen on the ``development`` split, where all kinds are compared; the test split reports the default and first
order alone.
"""

from __future__ import annotations

import functools
import operator
import time
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.table import Row, finish, parser
from noworse.compare import contrast
from noworse.sensitivity.errors import weight_rounding
from noworse.sensitivity.measure import DEFAULT, Runs, measure
from noworse.sensitivity.shifted import Shift
from zoo import fashion_mnist
from zoo.classify import loss

CNNS = ("lenet5", "resnet20", "vgg_small", "mobilenetv2")
BITS = (2, 4, 8)
AT_A_TIME, QUICK = 250, 50  # images
TEST, DEVELOPMENT = "test", "development"
KINDS = {
    TEST: (DEFAULT, "first-order"),
    DEVELOPMENT: (DEFAULT, "secant", "loss", "quadratic", "fisher", "first-order"),
}


@dataclass(frozen=True)
class Compared:
    """What each kind predicts for the errors of one net or several, and what is true; all nats, bit-widths by turns."""

    predicted: dict[str, list[float]]
    seconds: dict[str, float]  # of all errors
    loss: list[float]
    divergence: list[float]

    def __add__(self, other: Compared) -> Compared:
        return Compared(
            {kind: values + other.predicted[kind] for kind, values in self.predicted.items()},
            {kind: value + other.seconds[kind] for kind, value in self.seconds.items()},
            self.loss + other.loss,
            self.divergence + other.divergence,
        )

    def rows(self, what: str) -> list[Row]:
        """Rank correlations over all errors and for each bit-width, and the time of an error."""
        rows = []
        for kind, predicted in self.predicted.items():
            name, target = f"{what}, {kind}", ">= 0.9" if kind == DEFAULT else ""
            for truth, true in (("loss", self.loss), ("KL", self.divergence)):
                whole = correlation(predicted, true)
                rows.append(Row(f"{name}: rank correlation with the true {truth}", whole, "", target))
                for index, bits in enumerate(BITS):
                    part = slice(index, None, len(BITS))
                    place = f"with {'the loss' if truth == 'loss' else truth} at {bits} bits"
                    rows.append(Row(f"{name}: {place}", correlation(predicted[part], true[part]), ""))
            rows.append(Row(f"{name}: time of an error", 1000 * self.seconds[kind] / len(predicted), "ms"))
        return rows


def compare(net: str, split: str, quick: bool = False) -> Compared:
    """Predictions from the first held-out images, and the truth on all others."""
    task = fashion_mnist.build(net, split)
    images, labels = (torch.cat(parts) for parts in zip(*task.verify, strict=True))
    batches = list(zip(images.split(AT_A_TIME), labels.split(AT_A_TIME), strict=True))
    batches = [(x[:QUICK], y[:QUICK]) for x, y in batches[:2]] if quick else batches
    shown, others = batches[:1], batches[1:]
    weights = [name for name, p in task.model.named_parameters() if p.ndim > 1]
    errors = {f"{name}@{bits}": {name: weight_rounding(bits)} for name in weights for bits in BITS}
    predicted, seconds = {}, {}
    for kind in KINDS[split]:
        begin = time.monotonic()
        predicted[kind] = [found.mean for found in measure(task.model, loss, shown, errors, kind).values()]
        seconds[kind] = time.monotonic() - begin
    return Compared(predicted, seconds, *truth(task.model, others, errors))


def truth(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], errors: dict[str, Shift]
) -> tuple[list[float], list[float]]:
    """What each error changes on these images: the mean loss at their labels, and KL to the unmoved model."""
    runs = Runs(model, loss, batches, errors)
    found = {label: [0.0, 0.0] for label in errors}
    with torch.no_grad():
        for visit in runs.visits():
            for label, sums in found.items():
                losses, (logits,) = runs.model.at(visit.batch, visit.move(label))
                sums[0] += float((losses - visit.losses).double().sum())
                sums[1] += float(contrast(visit.outputs[0], logits)[1].sum())
    samples = sum(len(labels) for _, labels in batches)
    changes, divergences = zip(*((a / samples, b / samples) for a, b in found.values()), strict=True)
    return list(changes), list(divergences)


def correlation(predicted: list[float], true: list[float]) -> float:
    """Spearman's."""
    return float(spearmanr(predicted, true)[0])


def rows(quick: bool, only: list[str] | None = None, splits: tuple[str, ...] = (DEVELOPMENT, TEST)) -> list[Row]:
    """The rows of all convolutional nets and of their errors together, or of the smallest net."""
    nets = only or (CNNS[:1] if quick else CNNS)
    found = []
    for split in splits:
        compared = {net: compare(net, split, quick) for net in nets}
        if len(compared) > 1:
            compared["all nets"] = functools.reduce(operator.add, compared.values())
        found += [row for net, each in compared.items() for row in each.rows(f"{net}, {split}")]
    return found


def main() -> None:
    options_of = parser(__doc__ or "")
    options_of.add_argument("--only", nargs="*", help="these nets alone")
    options_of.add_argument("--split", choices=(DEVELOPMENT, TEST), help="this split alone")
    options = options_of.parse_args()
    splits = (options.split,) if options.split else (DEVELOPMENT, TEST)
    finish(rows(options.quick, options.only, splits), options)


if __name__ == "__main__":
    main()
