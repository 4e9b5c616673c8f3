"""Predicted against true loss changes of single weights' rounding: the sensitivity part of ``benchmarks.llc``.

Every weight of a convolution or a linear layer is rounded alone, at 2, 4 and 8 bits for each channel's largest
magnitude. Kinds of sensitivity are measured on 250 held-out images and judged by the true change of the loss on all
others, and by the KL divergence to the unmoved net on them: at 8 bits, and for robust layers at 4, the loss changes by
less than the luck of labels moves it on thousands of images, and only the divergence tells layers apart. How well the
truth on one half of these images ranks the truth on the other half tells how much of it is that luck. The default kind
was chosen on the ``development`` split, where all kinds are compared; ``test`` reports the default and first order.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.harness import Row, Run, Suite, main
from noworse.judge.verify import contrast
from noworse.sensitivity.measure import DEFAULT, Runs, measure
from noworse.sensitivity.shifted import Shift, weight_rounding
from zoo import fashion_mnist
from zoo.classify import loss

CNNS = ("lenet5", "resnet20", "vgg_small", "mobilenetv2")
BITS = (2, 4, 8)
AT_A_TIME, QUICK = 250, 50  # images
TEST, DEVELOPMENT = "test", "development"
TRUTHS = ("loss", "KL")
ESTIMATORS = {
    TEST: (DEFAULT, "first-order"),
    DEVELOPMENT: (DEFAULT, "secant", "loss", "quadratic", "fisher", "first-order"),
}


@dataclass(frozen=True)
class Compared:
    """What each kind predicts for the errors of one net or several, and what is true; all nats, bit-widths by turns."""

    predicted: dict[str, list[float]]
    seconds: dict[str, float]  # of all errors
    true: dict[str, list[float]]  # of loss and KL, on all images
    halves: dict[str, tuple[list[float], list[float]]]  # the same on two halves of them

    def __add__(self, other: Compared) -> Compared:
        return Compared(
            {kind: values + other.predicted[kind] for kind, values in self.predicted.items()},
            {kind: value + other.seconds[kind] for kind, value in self.seconds.items()},
            {truth: values + other.true[truth] for truth, values in self.true.items()},
            {truth: (a + other.halves[truth][0], b + other.halves[truth][1]) for truth, (a, b) in self.halves.items()},
        )

    def rows(self, what: str) -> list[Row]:
        """Rank correlations over all errors and for each bit-width, and the time of an error."""
        rows = []
        for truth, halves in self.halves.items():
            rows += self._ranks(f"{what}, one half of the images", f"the {truth} of the other", *halves)
        for kind, predicted in self.predicted.items():
            for truth, true in self.true.items():
                found = self._ranks(f"{what}, {kind}", f"the true {truth}", predicted, true)
                rows += [replace(found[0], target=">= 0.9" if kind == DEFAULT else ""), *found[1:]]
            rows.append(Row(f"{what}, {kind}: time of an error", 1000 * self.seconds[kind] / len(predicted), "ms"))
        return rows

    @staticmethod
    def _ranks(name: str, truth: str, one: list[float], other: list[float]) -> list[Row]:
        rows = [Row(f"{name}: rank correlation with {truth}", correlation(one, other), "")]
        for index, bits in enumerate(BITS):
            part = slice(index, None, len(BITS))
            rows.append(Row(f"{name}: with {truth} at {bits} bits", correlation(one[part], other[part]), ""))
        return rows


def compare(net: str, split: str, quick: bool = False) -> Compared:
    """Predictions from the first held-out images, and the truth on all others."""
    task = fashion_mnist.build(net, split)
    task.model.to(memory_format=torch.channels_last)  # faster on processors
    images, labels = (torch.cat(parts) for parts in zip(*task.verify, strict=True))
    batches = list(zip(images.split(AT_A_TIME), labels.split(AT_A_TIME), strict=True))
    batches = [(x[:QUICK], y[:QUICK]) for x, y in batches[:3]] if quick else batches
    shown, others = batches[:1], batches[1:]
    weights = [name for name, p in task.model.named_parameters() if p.ndim > 1]
    errors = {f"{name}@{bits}": {name: weight_rounding(bits)} for name in weights for bits in BITS}
    predicted, seconds = {}, {}
    for kind in ESTIMATORS[split]:
        begin = time.monotonic()
        predicted[kind] = [found.mean for found in measure(task.model, loss, shown, errors, kind).values()]
        seconds[kind] = time.monotonic() - begin
    halves = [truth(task.model, others[half::2], errors) for half in (0, 1)]
    share = len(others[0::2]) / len(others)
    true = {
        name: [share * a + (1 - share) * b for a, b in zip(*(half[name] for half in halves), strict=True)]
        for name in TRUTHS
    }
    return Compared(predicted, seconds, true, {name: (halves[0][name], halves[1][name]) for name in TRUTHS})


def truth(model: nn.Module, batches: list[tuple[Tensor, Tensor]], errors: dict[str, Shift]) -> dict[str, list[float]]:
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
    return {name: [sums[index] / samples for sums in found.values()] for index, name in enumerate(TRUTHS)}


def correlation(predicted: list[float], true: list[float]) -> float:
    """Spearman's."""
    return float(spearmanr(predicted, true)[0])


def section(split: str, run: Run) -> Iterator[Row]:
    """The rows of all convolutional nets and of their errors together, or of the smallest net."""
    compared = {}
    for net in run.few(CNNS):
        compared[net] = compare(net, split, run.quick)
        yield from compared[net].rows(f"{net}, {split}")
    if len(compared) > 1:
        yield from functools.reduce(operator.add, compared.values()).rows(f"all nets, {split}")


SUITE = Suite(
    "llc_sensitivity",
    __doc__,
    {split: functools.partial(section, split) for split in ESTIMATORS},
    arguments=lambda parser: parser.add_argument("--split", dest="only", nargs=1, choices=ESTIMATORS, help="as --only"),
)

if __name__ == "__main__":
    main(SUITE)
