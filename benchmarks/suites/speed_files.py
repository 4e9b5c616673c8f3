"""Files without a task: lossless beside zipnn, data-free, loading, classes, and the context coder.

On MiniLM's weights where the package that holds them is installed, else on random ones of the same shapes, Laplacian
with a spread of rows and columns. Coders take turns, and ratios are those of best rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import noworse as nw
from benchmarks.harness import Row, Run, rounds
from benchmarks.suites.codec import quantized
from benchmarks.suites.codec_symbols import PACKAGE, as_coded, coded_bytes, minilm_path, minilm_weights
from benchmarks.suites.lossless import coders
from noworse.codec import CodedGrid, Decoding, decode_into, encode
from noworse.codec import context as context_coder
from noworse.format import write
from noworse.representation import from_float32

WIDTH, LAYERS, WORDS = 384, 6, 30_522  # of MiniLM
ROUNDS, LOADS = 7, 40
STEP = 2.0**-6
# NNCodec 2.1.3 decoded these weights at 2.2 bits at 15.2 M/s where rANS with AVX2 did 1,200: measured once, elsewhere
NNCODEC = 15.2 / 1200
Weights = dict[str, NDArray[np.float32]]


def weights(run: Run) -> Weights:
    """MiniLM's floating-point tensors, or what looks like them; with ``quick`` those of a fifth of its size."""
    if find_spec(PACKAGE):
        found = minilm_weights(minilm_path())
        quick = {name: w for name, w in found.items() if "layer.0." in name or "layer.1." in name}
        return quick if run.quick else found
    rng = np.random.default_rng(0)
    shapes = {"words": (WORDS // 8 if run.quick else WORDS, WIDTH)}
    for layer in range(2 if run.quick else LAYERS):
        shapes |= {f"{layer}.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value", "output")}
        shapes |= {f"{layer}.up": (4 * WIDTH, WIDTH), f"{layer}.down": (WIDTH, 4 * WIDTH), f"{layer}.norm": (WIDTH,)}
    return {name: _random(rng, shape) for name, shape in shapes.items()}


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    spread = rng.lognormal(sigma=0.2, size=(shape[0], *(1 for _ in shape[1:])))
    spread = spread * rng.lognormal(sigma=0.2, size=shape[-1])
    return (0.04 * spread * rng.laplace(size=shape)).astype(np.float32)


def rows(run: Run) -> Iterator[Row]:
    """All rows on files."""
    found = weights(run)
    for dtype in ("float32", "bfloat16"):
        yield from lossless_rows({name: from_float32(w, dtype) for name, w in found.items()}, dtype, run)
    with tempfile.TemporaryDirectory() as folder:
        yield from datafree_rows(found, Path(folder), run)
        yield from load_rows(found, Path(folder), run)
    yield from classes_rows(found, run)
    yield from context_rows(found)


def lossless_rows(tensors: dict[str, NDArray[Any]], dtype: str, run: Run) -> Iterator[Row]:
    """Size and speeds beside zipnn, if it is installed, each with its own threads and with their processor time."""
    found = {name: pair for name, pair in coders(tensors, dtype) if not name.startswith("zstd")}
    size = sum(stored.nbytes for stored in tensors.values())
    data = {name: press() for name, (press, _) in found.items()}
    for name in found:
        yield Row(f"lossless {dtype}, {name}: size", len(data[name]) / size, "of original")
    for what in ("encode", "decode"):
        actions = {name: pair[0] if what == "encode" else partial(pair[1], data[name]) for name, pair in found.items()}
        for clock, label in ((time.perf_counter, "clock"), (time.process_time, "processor time")):
            best = {name: min(t) for name, t in rounds(actions, 2 if run.quick else ROUNDS, clock).items()}
            yield Row(f"lossless {dtype}: {what}, {label}", size / best["noworse"] / 1e6, "MB/s")
            if "zipnn" in best:
                target = ">= 1" if label == "processor time" else ""  # the clock favours whoever takes more threads
                ratio = best["zipnn"] / best["noworse"]
                yield Row(f"lossless {dtype}: {what} over zipnn's speed, {label}", ratio, "x", target)
    if "zipnn" in found:
        yield Row(f"lossless {dtype}: size over zipnn's", len(data["noworse"]) / len(data["zipnn"]), "x", "<= 1")


def datafree_rows(found: Weights, folder: Path, run: Run) -> Iterator[Row]:
    """Processor time of all threads, for a file of 4 bits per weight."""
    from safetensors.numpy import save_file

    save_file(found, folder / "a.safetensors")
    count = sum(w.size for w in found.values())
    press = partial(nw.compress_file, folder / "a.safetensors", folder / "a.nwt", target="4 bits")
    seconds = rounds({"file": press}, 1 if run.quick else 3, time.process_time)
    yield Row("data-free, 4 bits", 1e9 * min(seconds["file"]) / count, "ns/weight", "<= 25")


def load_rows(found: Weights, folder: Path, run: Run) -> Iterator[Row]:
    """``load_file`` of 4 bits against ``torch.load`` of float32: the clock with all threads, and processor time."""
    write(folder / "b.nwt", {name: quantized(w) for name, w in found.items()}, {})
    torch.save({name: torch.from_numpy(w) for name, w in found.items()}, folder / "b.pt")
    actions = {"ours": lambda: nw.load_file(folder / "b.nwt"), "torch": lambda: torch.load(folder / "b.pt")}
    for clock, label, target in ((time.perf_counter, "clock", "<= 1"), (time.process_time, "processor time", "<= 1")):
        seconds = rounds(actions, 5 if run.quick else LOADS, clock, warmup=3)
        yield Row(f"load_file over torch.load, {label}", min(seconds["ours"]) / min(seconds["torch"]), "x", target)


def classes_rows(found: Weights, run: Run) -> Iterator[Row]:
    """Codes with classes to float32 on one thread, against numpy's int8 to float32."""
    codes = [np.rint(w / w.std()).astype(np.int32) for w in found.values() if w.ndim == 2 and w.size >= 1 << 16]
    streams = [as_coded(encode(c.reshape(-1), c.shape[1], 1)) for c in codes]
    outs, bytes_ = [np.zeros(c.size, np.float32) for c in codes], [c.astype(np.int8).reshape(-1) for c in codes]
    grids = [CodedGrid(c, out, STEP, 40) for c, out in zip(streams, outs, strict=True)]
    step = np.float32(STEP)
    actions = {
        "classes": lambda: [Decoding([grid], 1).results() for grid in grids],
        "numpy": lambda: [np.multiply(b, step, out=out) for b, out in zip(bytes_, outs, strict=True)],
    }
    best = {name: min(t) for name, t in rounds(actions, 3 if run.quick else 15, time.thread_time).items()}
    yield Row("classes: streams that have them", sum(c.scales is not None for c in streams) / len(streams), "")
    yield Row("classes: decode", sum(map(np.size, codes)) / best["classes"] / 1e6, "M/s")
    yield Row("classes: decode to float32 over numpy int8 to float32", best["numpy"] / best["classes"], "x", ">= 0.75")


def context_rows(found: Weights) -> Iterator[Row]:
    """Context-coded codes of the last matrices: bytes over those of the fast coder, and speed beside NNCodec's."""
    codes = [np.rint(w / w.std()).astype(np.int32) for w in found.values() if w.ndim == 2][-4:]
    flat, shapes = np.concatenate([c.reshape(-1) for c in codes]), [c.shape for c in codes]
    blocks = context_coder.encode(flat, shapes)
    streams = [as_coded(encode(c.reshape(-1), c.shape[1], 1)) for c in codes]
    plain, out = as_coded(encode(flat, 0, 1)), np.empty(flat.size, np.int32)
    actions = {
        "context": lambda: context_coder.decode(blocks, shapes),
        "fast": lambda: decode_into(plain, out, 1, simd=1),  # AVX2, as NNCODEC was measured
    }
    best = {name: min(t) for name, t in rounds(actions, 3, time.thread_time).items()}
    yield Row("context: bytes over the fast coder's", sum(map(len, blocks)) / coded_bytes(streams), "x", "<= 1")
    yield Row("context: decode", flat.size / best["context"] / 1e6, "M/s")
    ratio = best["fast"] / best["context"] / NNCODEC
    yield Row("context: decode over NNCodec's speed (by that of rANS)", ratio, "x", ">= 2")
