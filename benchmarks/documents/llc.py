"""The tables of docs/llc.md from the rows of ``benchmarks.llc``, with LLC's numbers beside."""

from __future__ import annotations

from benchmarks.documents.tables import TITLES, table
from benchmarks.harness.page import Tables
from benchmarks.harness.row import Rows, values_of
from benchmarks.harness.table import markdown
from benchmarks.suites.llc_neighborhood import PAPER_SIZES
from benchmarks.suites.llc_nets import NETS
from benchmarks.suites.llc_sensitivity import ESTIMATORS, TEST, TRUTHS

GAPS = {
    f"noise {size:g}": f", all activations, noise {size:g}: |gap| of first order" for size in PAPER_SIZES
} | {
    "slope 1": ", all activations: slope of the gap of first order",
    "slope 2": ", all activations: slope of the gap of second order",
}  # fmt: skip
PUBLISHED_GAPS = (  # LLC's Table 1: first-order gaps of activation noise
    ("ResNet-18 (LLC)", "0.00735", "0.005322", "0.004321", "0.002283", "0.002675", "", ""),
    ("ResNet-50 (LLC)", "0.023649", "0.013232", "0.008651", "0.006422", "0.006458", "", ""),
    ("BERT (LLC)", "0.011155", "0.008154", "0.005221", "0.004517", "0.004394", "", ""),
)
SMALLEST = {
    "bits": ": bits per weight",
    "drop of weights": ": drop-rate of weights",
    "of the file": ": drop-rate of the whole file",
    "loss": ": loss difference",
    "bound": ": its upper bound",
    "metric": ": metric minus the original's",
}
PUBLISHED_DROPS = (  # LLC's Table 2: net, drop-rate, loss before and after
    ("CNN, MNIST", 73, 0.0792, 0.0786),
    ("ResNet-14, CIFAR", 56, 0.3634, 0.3576),
    ("VGG-13, CIFAR-100", 74, 1.2726, 1.2503),
    ("MobileNetV2, CIFAR", 71, 1.6358, 1.6245),
    ("BERT, SQuAD", 45, 0.4461, 0.4461),
)
EQUAL = {
    rival: (f", {rival}: loss difference", f", {rival}: KL to the original")
    for rival in ("default", "uniform", "trace", "fisher", "mse", "paper")
}
CALIBRATION = {
    "loss on them": ": loss difference on them",
    "held out": ": loss difference held out",
    "deviation between draws": ": deviation of that between draws",
}
RANKS = {
    f"{kind}, {truth}": f", {TEST}, {kind}: rank correlation with the true {truth}"
    for kind in ESTIMATORS[TEST] for truth in TRUTHS
} | {
    f"half and half, {truth}": f", {TEST}, one half of the images: rank correlation with the {truth} of the other"
    for truth in TRUTHS
}  # fmt: skip
INTEGERS = {
    "bytes over its weights' bits": ": bytes over those of its weights' bits",
    "same top-1": ": same top-1 as the module",
    "ms for 1,000 images": ": time of 1,000 images",
}


def controls(rows: Rows) -> str:
    """Losses on the images that chose, and on others."""
    values = values_of(rows)
    ends = [": loss difference on calib", ": loss difference held out"]
    begins = [name.removesuffix(ends[0]) for name in values if name.endswith(ends[0])]
    nets = [net for net in NETS if any(begin.startswith(f"{net}, ") for begin in begins)]
    lines = []
    for what in dict.fromkeys(begin.partition(", ")[2] for begin in begins):
        pairs = [[values.get(f"{net}, {what}{end}") for end in ends] for net in nets]
        lines.append([what, *("" if a is None or b is None else f"{a:+.4f} / {b:+.4f}" for a, b in pairs)])
    return markdown(["calib / held out", *(TITLES[net] for net in nets)], lines)


TABLES: Tables = {
    "llc: neighbourhood": table("net", GAPS, more=PUBLISHED_GAPS),
    "llc: smallest": table("what", SMALLEST, more=[
        (f"{net} (LLC)", "", f"{drop} %", "", f"{after - before:+.4f}", "", "")
        for net, drop, before, after in PUBLISHED_DROPS
    ]),
    "llc: equal sizes": table("loss (KL), nats", EQUAL),
    "llc: controls": controls,
    "llc: calibration": table("what chose", CALIBRATION),
    "llc: ranks": table("net", RANKS),
    "llc: integers": table("what", INTEGERS),
}  # fmt: skip
