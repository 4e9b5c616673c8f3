"""The tables of README.md, docs/results.md, docs/scale.md and docs/architectures.md."""

from __future__ import annotations

from benchmarks.documents.tables import table
from benchmarks.harness.page import Tables
from benchmarks.harness.row import Rows
from benchmarks.harness.table import all_rows
from benchmarks.suites.counter import STEPS
from benchmarks.suites.datafree import BALANCES
from benchmarks.suites.l2_cases import ENDURANCE

COMPRESSED = {
    "file": ": file",
    "ratio": ": ratio",
    "loss difference": ": loss difference",
    "bound": ": its upper bound",
    "metric, original": ": metric of the original",
    "in the file": ": metric of the file",
    "changed": ": changed predictions",
    "time": ": time",
}
FAR = {"metric, original": " at 50: metric of the original"} | {
    f"{ratio}x: {title}": f" at {ratio}: {end}"
    for ratio in (30, 50)
    for title, end in (("loss", "loss difference"), ("bound", "its upper bound"), ("metric", "metric of the file"))
}
PAPER = {
    "the paper's ratio at the default's loss": ": paper's ratio at the default's loss",
    "default over paper, equal loss": ": default against paper at equal loss",
    "equal KL": ": default against paper at equal KL",
}
ANCHORS = {
    "largest ratio within 0.01 nats": ": largest ratio within 0.01 nats",
    "bytes over NNCodec's": ": bytes / NNCodec's",
    "bytes over CERWU's": ": bytes / CERWU's",
}
CODED = {
    "size / entropy": ": size / entropy, one table",
    "with classes": ": size / entropy, classes",
    "decode, M/s": ": decode",
    "without AVX2": ": decode without AVX2",
    "to float32": ": decode to float32",
    "encode, M/s": ": encode",
    "over numpy's int8 to float32": ": decode to float32 / numpy int8 to float32",
    "two threads over one": ": decode to float32, two threads / one",
    "over constriction": ": decode / constriction",
}
LOSSLESS = {"size, of original": ": size"} | {
    f"{what}, MB/s": f": {what}"
    for what in ("encode", "encode, processor time", "decode", "decode, processor time")
}  # fmt: skip
ARCHITECTURES = {
    "parameters": ": parameters",
    "ratio": ": ratio",
    "survey and start": ": survey and start",
    "everything": ": everything",
    "load": ": load",
    "fp32 model": ": fp32 model",
    "activations": ": activations",
    "peak memory": ": peak memory",
    "peak without activations, x fp32": ": peak without activations",
}


OUTLIERS = {
    "listed": ": largest error of others, listed",
    "no list": ": largest error of others, no list",
    "bytes of the list": ": bytes of the list",
}


def main_case(case: str) -> bool:
    """Whether the README shows a case of ``benchmarks.l2``."""
    return case not in ENDURANCE


def loading(rows: Rows) -> str:
    """Time and memory of loading."""
    return all_rows([row for row in rows if row.section == "load"])


def tuning(rows: Rows) -> str:
    """What a weight costs in an iteration."""
    return all_rows([row for row in rows if row.section in ("kernels", "iteration")])


def grids(rows: Rows) -> str:
    """Bits of models that others quantised."""
    return all_rows([row for row in rows if row.section == "grids"])


def start(rows: Rows) -> str:
    """Rows of survey and start that have a target."""
    return all_rows([row for row in rows if row.section in ("start", "large") and row.target])


def files(rows: Rows) -> str:
    """What files cost."""
    return all_rows([row for row in rows if row.section == "files"])


TABLES: Tables = {
    "l2: models": table("model", COMPRESSED, main_case),
    "l2: 30x and 50x": table("model", FAR),
    "fast": table("model", COMPRESSED),
    "counter": table("ns per weight", {rate: f" at {rate}" for rate in STEPS}),
    "paper": table("net", PAPER),
    "anchors": table("net", ANCHORS),
    "codec: symbols": table("symbols", CODED),
    "codec: load": loading,
    "speed: kernels": tuning,
    "speed: start": start,
    "speed: files": files,
    "lossless: grids": grids,
    "lossless": table("type and coder", LOSSLESS),
    **{
        f"datafree: {what}": table("net", {f"balance {b:g}": f", balance {b:g}: {end}" for b in BALANCES})
        for what, end in (("KL", "KL divergence to the original"), ("cosine", "1 - cosine to the original"))
    },
    "outliers: others": table("tensor", OUTLIERS, title=str),
    "architectures": table("net", ARCHITECTURES, title=str),
    "recurrent": all_rows,
    "targets": all_rows,
    "scale": all_rows,
}
