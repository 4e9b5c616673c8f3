"""The tables of docs/llc.md from the rows of ``benchmarks.llc``, with LLC's numbers beside (``benchmarks.publish``).

Nets and parts without rows are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from benchmarks.llc_calibration import SIZES as CALIBRATION_SIZES
from benchmarks.llc_equal import SIZES
from benchmarks.llc_neighborhood import NETS as NEIGHBOURS
from benchmarks.llc_neighborhood import PAPER_SIZES, short
from benchmarks.llc_nets import NETS
from benchmarks.llc_sensitivity import CNNS, KINDS, TEST, TRUTHS
from benchmarks.pages import TITLES, Values, markdown

# LLC's Table 2: loss before and after, drop-rate, of the net most like ours
PUBLISHED = {
    "lenet5": ("CNN, MNIST", 0.0792, 0.0786, 73),
    "resnet20": ("ResNet-14, CIFAR", 0.3634, 0.3576, 56),
    "vgg_small": ("VGG-13, CIFAR-100", 1.2726, 1.2503, 74),
    "mobilenetv2": ("MobileNetV2, CIFAR", 1.6358, 1.6245, 71),
    "minilm": ("BERT, SQuAD", 0.4461, 0.4461, 45),
}
# LLC's Table 1: first-order gaps of activation noise
GAPS = {
    "ResNet-18": (0.00735, 0.005322, 0.004321, 0.002283, 0.002675),
    "ResNet-50": (0.023649, 0.013232, 0.008651, 0.006422, 0.006458),
    "BERT": (0.011155, 0.008154, 0.005221, 0.004517, 0.004394),
}
RIVALS = ("default", "uniform", "trace", "fisher", "mse", "paper")


def neighbourhood(values: Values) -> str:
    """LLC's Table 1, with the slopes that it lacks."""
    lines = [[f"{name} (LLC)", *(f"{gap:.2g}" for gap in gaps), "", ""] for name, gaps in GAPS.items()]
    for net in NEIGHBOURS:
        names = [f"{net}, all activations, noise {size:g}: |gap| of first order" for size in PAPER_SIZES]
        if all(name in values for name in names):
            slopes = [values[f"{net}, all activations: slope of the gap of {o} order"] for o in ("first", "second")]
            shown = TITLES.get(short(net), short(net))
            lines.append([shown, *(f"{values[n]:.2g}" for n in names), *(f"{s:.2f}" for s in slopes)])
    if len(lines) == len(GAPS):
        return ""
    return markdown(["net", *(f"noise {size:g}" for size in PAPER_SIZES), "slope 1", "slope 2"], lines)


def smallest(values: Values) -> str:
    """LLC's Table 2: what is no worse."""
    lines = []
    for net in (*NETS, "minilm"):
        for what in ("weights and inputs", "weights"):
            name = f"{net}, {what}"
            if f"{name}: drop-rate of weights" not in values:
                continue
            weights, file, bits, mean, bound, metric = (values[f"{name}: {key}"] for key in (
                "drop-rate of weights", "drop-rate of the whole file", "bits per weight", "loss difference",
                "its upper bound", "metric minus the original's",
            ))  # fmt: skip
            published = ""
            if what != "weights" and net in PUBLISHED:
                model, before, after, drop = PUBLISHED[net]
                published = f"{model}: {drop} %, {after - before:+.4f}"
            lines.append([TITLES[net], what, f"{bits:.2f}", f"{weights:.1f} %", f"{file:.1f} %", f"{mean:+.4f}",
                          f"{bound:+.4f}", f"{metric:+.2g}", published])  # fmt: skip
    head = ["net", "what", "bits", "drop of weights", "of the file", "loss", "bound", "metric", "LLC: drop, loss"]
    return markdown(head, lines)


def sizes_of(text: str, sizes: Iterable[float], values: Values, measured: str) -> Iterator[tuple[str, float, str]]:
    """Nets, sizes and the beginnings of their rows, of those that have a row that ends in ``measured``."""
    for net in NETS:
        for size in sizes:
            what = text.format(net, size)
            if what + measured in values:
                yield net, size, what


def equal(values: Values) -> str:
    """LLC's Table 3, at equal sizes: losses and KL of every allocation."""
    lines = []
    for net, bits, what in sizes_of("{}, {} bits", SIZES, values, ", default: loss difference"):
        cells = [(values[f"{what}, {r}: loss difference"], values[f"{what}, {r}: KL to the original"]) for r in RIVALS]
        lines.append([TITLES[net], str(bits), *(f"{mean:+.5f} ({kl:.5f})" for mean, kl in cells)])
    return markdown(["net", "bits", *RIVALS], lines)


def controls(values: Values) -> str:
    """Losses on the images that chose, and on others."""
    end = ": loss difference on calib"
    lines = []
    for net in NETS:
        for name in values:
            if name.startswith(f"{net}, ") and name.endswith(end):
                what = name.removeprefix(f"{net}, ").removesuffix(end)
                lines.append(
                    [TITLES[net], what, f"{values[name]:+.5f}", f"{values[name.replace('on calib', 'held out')]:+.5f}"]
                )
    return markdown(["net", "what", "loss on calib", "loss held out"], lines)


def calibration(values: Values) -> str:
    """The same by how many images chose the directions of rounding."""
    lines = []
    keys = ("loss difference on them", "loss difference held out", "deviation of that between draws")
    for net, size, what in sizes_of("{}, directions of {} images", CALIBRATION_SIZES, values, f": {keys[0]}"):
        lines.append([TITLES[net], str(size), *(f"{values[f'{what}: {key}']:+.5f}" for key in keys)])
    return markdown(["net", "images", "loss on them", "held out", "deviation between draws"], lines)


def ranks(values: Values) -> str:
    """How well the default sensitivity and first order alone rank the errors of single weights."""
    lines = []
    for net in (*CNNS, "all nets"):
        found = [f"{net}, {TEST}, {k}: rank correlation with the true {t}" for k in KINDS[TEST] for t in TRUTHS]
        halves = [f"{net}, {TEST}, one half of the images: rank correlation with the {t} of the other" for t in TRUTHS]
        if halves[0] in values:
            lines.append([TITLES.get(net, net), *(f"{values[name]:.2f}" for name in (*found, *halves))])
    kinds = (*KINDS[TEST], "half and half")
    return markdown(["net", *(f"{kind}, {truth}" for kind in kinds for truth in TRUTHS)], lines)


def integers(values: Values) -> str:
    """Files for onnxruntime against the modules that they were made of, and against the float32 net."""
    lines = []
    for net in NETS:
        for kind in ("int8", "mixed"):
            what, plain = f"{net}, onnx {kind}", f"{net}, onnx float"
            if f"{what}: same top-1 as the module" not in values:
                continue
            same, size = (
                values[f"{what}: same top-1 as the module"],
                values[f"{what}: bytes over those of its weights' bits"],
            )
            time = values[f"{what}: time of 1,000 images"] / values[f"{plain}: time of 1,000 images"]
            lines.append([TITLES[net], kind, f"{same:.2f} %", f"{size:.2f}", f"{time:.2f}"])
    return markdown(["net", "bits", "same top-1", "bytes over its weights' bits", "time over float32"], lines)


PARTS: dict[str, Callable[[Values], str]] = {
    "Neighbourhood: |mean gap| of first order under noise of all inputs (LLC, Table 1)": neighbourhood,
    "As few bits as are no worse (LLC, Table 2)": smallest,
    "Equal sizes: loss difference, in brackets KL to the original, nats (LLC, Table 3)": equal,
    "Controls": controls,
    "How many images choose directions of rounding": calibration,
    "Rank correlations of predicted and true changes by rounding single weights to 2, 4 and 8 bits": ranks,
    "As integers in onnxruntime, one thread": integers,
}
