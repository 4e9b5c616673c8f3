"""The tables of docs/lowrank.md from the rows of ``benchmarks.lowrank``, with LLC's beside (``benchmarks.publish``)."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.lowrank import DROPS, NETS, OTHERS
from benchmarks.lowrank_joint import CASES
from benchmarks.pages import TITLES, Values, markdown

# LLC's Tables 4 and 5: net, share of the decomposed layers' parameters, change of the loss and of the metric
PUBLISHED = (
    ("VGG-13-BN, ImageNet", 39, 1.139801 - 1.144342, 71.58 - 71.59),
    ("VGG-19-BN, ImageNet", 43, 1.021449 - 1.042591, 74.22 - 74.21),
    ("ResNet-18, ImageNet", 62, 1.245241 - 1.247314, 69.23 - 69.76),
    ("ResNet-50, ImageNet", 56, 0.950493 - 0.961835, 76.10 - 76.13),
    ("ResNeXt-101, ImageNet", 81, 0.869111 - 0.926616, 78.16 - 79.31),
    ("ResNet-152, ImageNet", 10, 0.852449 - 0.876225, 78.18 - 78.31),
    ("DenseNet-169, ImageNet", 52, 0.971887 - 0.997792, 75.45 - 75.60),
    ("BERT, SQuAD", 20, 0.4460 - 0.4461, 88.16 - 88.15),
)
# its Table 6, VGG-16: way, change of the loss, of top-5, minutes
TRAINED = (
    ("SVD and training", 1.1454 - 1.1443, 90.36 - 90.37, 315.0),
    ("without training", 1.1393 - 1.1443, 90.38 - 90.37, 8.3),
)


def decomposed(values: Values) -> str:
    """What went, and what it cost."""
    end = ": parameters dropped of these layers"
    keys = ("parameters dropped of the model", "operations", "loss difference", "its upper bound",
            "metric minus the original's", "samples of calib", "time")  # fmt: skip
    lines = []
    for what in (name.removesuffix(end) for name in values if name.endswith(end)):
        layers = values[what + end]
        model, work, loss, bound, metric, samples, seconds = (values[f"{what}: {key}"] for key in keys)
        net, _, rest = what.replace(" conv2", ", second convolution").partition(", ")
        lines.append([f"{TITLES[net]}, {rest}", f"{layers:.1f} %", f"{model:.1f} %", f"{work:.2f}", f"{loss:+.4f}",
                      f"{bound:+.4f}", f"{metric:+.2f}", f"{samples:.0f}", f"{seconds:.0f} s"])  # fmt: skip
    if not lines:
        return ""
    lines += [[f"{name} (LLC)", f"{drop} %", "", "", f"{loss:+.4f}", "", f"{metric:+.2f}", "", ""]
              for name, drop, loss, metric in PUBLISHED]  # fmt: skip
    head = ["what", "dropped of the layers", "of the model", "operations", "loss", "bound", "metric", "samples", "time"]
    return markdown(head, lines)


def equal(values: Values) -> str:
    """All weightings at equal drop."""
    lines = []
    for net in NETS:
        for drop in DROPS:
            what = f"{net}, {drop:.0%} dropped"
            if f"{what}, default: KL to the original" not in values:
                continue
            cells = [[values[f"{what}, {p}: {m}"] for m in ("loss difference", "KL to the original")] for p in WAYS]
            lines.append([TITLES[net], f"{drop:.0%}", *(f"{loss:+.5f} ({kl:.5f})" for loss, kl in cells)])
    return markdown(["net", "dropped", *WAYS], lines)


def trained(values: Values) -> str:
    """Against plain SVD with training."""
    what = "vgg_small, 70 % dropped"
    keys = ("loss difference", "metric minus the original's", "time")
    lines = []
    for way in ("default", "svd", "svd and training"):
        if f"{what}, {way}: time" in values:
            loss, metric, seconds = (values[f"{what}, {way}: {key}"] for key in keys)
            lines.append([f"VGG-small, {way}", f"{loss:+.4f}", f"{metric:+.2f}", f"{seconds / 60:.1f}"])
    if lines:
        lines += [[f"VGG-16, {way} (LLC)", f"{a:+.4f}", f"{b:+.2f}", f"{c:.1f}"] for way, a, b, c in TRAINED]
    return markdown(["what", "loss", "metric (LLC: top-5)", "minutes"], lines)


def tensors(values: Values) -> str:
    """Ours, Tucker-2 and CP on one convolution."""
    what = "lenet5 conv2, half dropped"
    ways = [way for way in ("default", "Tucker-2", "CP") if f"{what}, {way}: loss difference" in values]
    return markdown(["way", "loss"], [[way, f"{values[f'{what}, {way}: loss difference']:+.5f}"] for way in ways])


def files(values: Values) -> str:
    """Files with products, and those of grids alone."""
    lines = []
    for case in CASES:
        what = f"{case}, auto"
        if f"{what}: ratio" not in values:
            continue
        ratio, loss, bound = (values[f"{what}: {key}"] for key in ("ratio", "loss difference", "its upper bound"))
        ways = [f"{values[f'{what}: layers by {way}']:.0f} {way}" for way in ("grid", "flat", "spatial")
                if values.get(f"{what}: layers by {way}")]  # fmt: skip
        sizes = [values.get(f"{case}: size of auto over that of grids at equal {kind}") for kind in ("loss", "KL")]
        title = TITLES[case.partition(" ")[0]]
        lines.append([title, f"{ratio:.1f}", f"{loss:+.4f}", f"{bound:+.4f}", ", ".join(ways),
                      *("" if size is None else f"{100 * size:.0f} %" for size in sizes)])  # fmt: skip
    head = ["net", "ratio", "loss", "bound", "layers by", "size over that of grids, at equal loss", "at equal KL"]
    return markdown(head, lines)


WAYS = ("default", *OTHERS)
PARTS: dict[str, Callable[[Values], str]] = {
    "Decomposed without training (LLC, Tables 4 and 5)": decomposed,
    "Equal drops of dense layers: loss difference, in brackets KL to the original, nats": equal,
    "Plain SVD and training with labels, at equal drop (LLC, Table 6)": trained,
    "The second convolution of LeNet-5 at half its parameters": tensors,
    "Files": files,
}
