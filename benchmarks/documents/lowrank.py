"""The tables of docs/lowrank.md from the rows of ``benchmarks.lowrank``, with LLC's numbers beside."""

from __future__ import annotations

from benchmarks.documents.tables import table
from benchmarks.harness.page import Tables
from benchmarks.suites.lowrank import OTHERS

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
DECOMPOSED = {
    "dropped of the layers": ": parameters dropped of these layers",
    "of the model": ": parameters dropped of the model",
    "operations": ": operations",
    "loss": ": loss difference",
    "bound": ": its upper bound",
    "metric": ": metric minus the original's",
    "samples": ": samples of calib",
    "time": ": time",
}
EQUAL = {
    way: (f", {way}: loss difference", f", {way}: KL to the original") for way in ("default", *OTHERS)
}  # fmt: skip
TUNED = {
    "loss": ": loss difference",
    "metric (LLC: top-5)": ": metric minus the original's",
    "time": ": time",
}
FILES = {
    "ratio": ", auto: ratio",
    "loss": ", auto: loss difference",
    "bound": ", auto: its upper bound",
    "grids": ", auto: layers by grid",
    "flat": ", auto: layers by flat",
    "spatial": ", auto: layers by spatial",
    "size over that of grids, at equal loss": ": size of auto over that of grids at equal loss",
    "at equal KL": ": size of auto over that of grids at equal KL",
}

TABLES: Tables = {
    "lowrank: decomposed": table("what", DECOMPOSED, more=[
        (f"{name} (LLC)", f"{drop} %", "", "", f"{loss:+.4f}", "", f"{metric:+.2f}", "", "")
        for name, drop, loss, metric in PUBLISHED
    ]),
    "lowrank: equal drops": table("loss (KL), nats", EQUAL, lambda begin: not begin.endswith(" % dropped")),
    "lowrank: trained": table("what", TUNED, lambda begin: ", 70 % dropped" in begin, [
        (f"VGG-16, {way} (LLC)", f"{loss:+.4f}", f"{top5:+.2f}", f"{60 * minutes:,.0f} s")
        for way, loss, top5, minutes in TRAINED
    ]),
    "lowrank: tensors": table("way", {"loss": ": loss difference"}, lambda begin: ", half dropped" in begin),
    "lowrank: files": table("net", FILES),
}  # fmt: skip
