"""Size and speed of the coder against the goals that were set for it.

Speeds are millions of symbols per second, medians over rounds in which all contestants take turns. One thread is timed
by its processor time, which other programs on the machine disturb least; several threads and files by the clock.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import Row, Run, Suite, main, rounds
from benchmarks.harness.case import in_own_process
from benchmarks.suites.codec_symbols import (
    Symbols,
    as_coded,
    coded_bytes,
    entropy_bits,
    laplacian,
    minilm,
    minilm_path,
    minilm_weights,
)
from noworse.codec import Coded, CodedGrid, Decoding, decode_into, encode
from noworse.format import write
from noworse.representation import Constant, Grid, Raw, pack_step

STEP, EDGE = 2.0**-6, 40
RUNS = 5
COPIES = 4  # decoded at once where threads are compared: 20 blocks are too few to be shared out evenly


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Median over rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def _decode_grids(grids: Sequence[CodedGrid], threads: int, simd: int = 3) -> object:
    return Decoding(grids, threads, simd).results()


def speed_rows(symbols: Symbols, count: int) -> Iterator[Row]:
    """Speeds of one thread, and of two beside it."""
    out, streams, classed = np.zeros(symbols.size, np.float32), symbols.encode(False), symbols.encode(True)
    codes, bytes_ = out.view(np.int32), [c.astype(np.int8) for c, _ in symbols.matrices]
    ends = np.cumsum([c.size for c, _ in symbols.matrices]).tolist()
    slices = [slice(end - c.size, end) for end, (c, _) in zip(ends, symbols.matrices, strict=True)]

    def decoder(coded: Sequence[Coded], simd: int = 3) -> Callable[[], object]:
        return lambda: [decode_into(c, codes[s], 1, simd) for c, s in zip(coded, slices, strict=True)]

    def fused(coded: Sequence[Coded]) -> Callable[[], object]:
        parts = [CodedGrid(c, out[s], STEP, EDGE) for c, s in zip(coded, slices, strict=True)]
        return lambda: [_decode_grids([part], 1) for part in parts]

    step = np.float32(STEP)
    contestants = {
        "decode": decoder(streams),
        "decode to float32": fused(streams),
        "numpy int8 to float32": lambda: [
            np.multiply(b, step, out=out[s]) for b, s in zip(bytes_, slices, strict=True)
        ],
        "decode with AVX2": decoder(streams, simd=1),
        "decode without AVX2": decoder(streams, simd=0),
        "encode": lambda: symbols.encode(False),
    }
    if any(c.scales for c in classed):
        contestants |= {
            "decode with classes": decoder(classed),
            "decode to float32 with classes": fused(classed),
            "encode with classes": lambda: symbols.encode(True),
        }
    seconds = rounds(contestants, count, time.thread_time)
    targets = {"decode": ">= 1000", "decode with AVX2": ">= 1000", "decode without AVX2": ">= 150", "encode": ">= 250"}
    for name, found in seconds.items():
        yield Row(
            f"{symbols.name}: {name}", symbols.size / statistics.median(found) / 1e6, "M/s", targets.get(name, "")
        )
        yield Row(f"{symbols.name}: {name}, best round", symbols.size / min(found) / 1e6, "M/s")
    faster = ratio(seconds["numpy int8 to float32"], seconds["decode to float32"])
    yield Row(f"{symbols.name}: decode to float32 / numpy int8 to float32", faster, "x", ">= 0.65")
    outs = [np.zeros(symbols.size, np.float32) for _ in range(COPIES)]
    grids = [CodedGrid(c, o[s], STEP, EDGE) for o in outs for c, s in zip(streams, slices, strict=True)]
    ways = {name: partial(_decode_grids, grids, threads) for name, threads in (("one", 1), ("two", 2))}
    pair = rounds(ways, 4 * count, time.perf_counter)
    yield Row(f"{symbols.name}: decode to float32, two threads / one", ratio(pair["one"], pair["two"]), "x", ">= 1.5")
    yield Row(f"{symbols.name}: decode to float32, best of two threads / one", min(pair["one"]) / min(pair["two"]), "x")


def size_rows(symbols: Symbols) -> Iterator[Row]:
    """Bytes against the sum of the order-0 entropies of the matrices."""
    entropy = sum(entropy_bits(codes) for codes, _ in symbols.matrices) / 8
    yield Row(f"{symbols.name}: entropy", 8 * entropy / symbols.size, "bits/symbol")
    yield Row(
        f"{symbols.name}: size / entropy, one table", coded_bytes(symbols.encode(False)) / entropy, "x", "<= 1.006"
    )
    classed = symbols.encode(True)
    if any(coded.scales for coded in classed):
        yield Row(f"{symbols.name}: size / entropy, classes", coded_bytes(classed) / entropy, "x", "<= 0.985")


def constriction_rows(symbols: Symbols, count: int) -> Iterator[Row]:
    """Our decoder against the range decoder of the package constriction, on the largest matrix."""
    try:
        import constriction
    except ImportError:
        print("constriction is not installed (pip install 'noworse[bench]'): its rows are left out", file=sys.stderr)
        return
    codes = max((c for c, _ in symbols.matrices), key=len)
    counts = np.bincount(codes - codes.min()).astype(np.float64)
    model = constriction.stream.model.Categorical((counts / codes.size).astype(np.float32), perfect=False)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(codes - codes.min(), model)
    words, coded, out = encoder.get_compressed(), as_coded(encode(codes)), np.zeros(codes.size, np.int32)
    contestants = {
        "ours": lambda: decode_into(coded, out, 1),
        "constriction": lambda: constriction.stream.queue.RangeDecoder(words).decode(model, codes.size),
    }
    seconds = rounds(contestants, 3 * count, time.thread_time)
    speed = codes.size / statistics.median(seconds["constriction"]) / 1e6
    yield Row(f"{symbols.name}: decode, constriction's range decoder", speed, "M/s")
    yield Row(f"{symbols.name}: decode / constriction", ratio(seconds["constriction"], seconds["ours"]), "x", ">= 25")


def determinism_rows(symbols: Symbols) -> Iterator[Row]:
    """How often one and two threads and the code for every instruction set encoded and decoded the same."""
    same = 0
    for _ in range(RUNS):
        for codes, columns in symbols.matrices:
            ways = [(threads, simd) for threads in (1, 2) for simd in (0, 1, 2, 3)]
            encoded = [as_coded(encode(codes, columns, *way)) for way in ways]
            decoded = [np.zeros(codes.size, np.int32) for _ in ways]
            values = [np.zeros(codes.size, np.float32) for _ in ways]
            for out, way in zip(decoded, ways, strict=True):
                decode_into(encoded[0], out, *way)
            for floats, way in zip(values, ways, strict=True):
                _decode_grids([CodedGrid(encoded[0], floats, STEP, EDGE)], *way)
            if any(e.data != encoded[0].data for e in encoded) or any((out != codes).any() for out in decoded):
                break
            if any(floats.tobytes() != values[0].tobytes() for floats in values):
                break
        else:
            same += 1
    yield Row(f"{symbols.name}: same from 1 and 2 threads, all instruction sets", same, "runs", f">= {RUNS}")


def load_rows(path: Path, count: int) -> Iterator[Row]:
    """``load_file`` of MiniLM at about 4 bits against ``torch.load`` of the same in float32, with both files cached.

    Both allocate their tensors anew, and a virtual machine may pay for a page when it is touched for the first time:
    the first rounds, which do, are not counted, and there are many.
    """
    import torch

    from noworse import load_file

    weights = minilm_weights(path)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = os.path.join(folder, "a.nwt"), os.path.join(folder, "a.pt")  # noqa: PTH118
        size = write(ours, {name: quantized(w) for name, w in weights.items()}, {})
        torch.save({name: torch.from_numpy(w) for name, w in weights.items()}, theirs)
        contestants = {"ours": lambda: load_file(ours), "torch": lambda: torch.load(theirs, weights_only=True)}
        seconds = rounds(contestants, 4 * count, time.perf_counter, warmup=count)
        work = rounds(contestants, count, time.process_time)
        peak = in_own_process(peak_of_loading, ours)
    yield Row("MiniLM at 0.25 sigma: file", 8 * size / sum(w.size for w in weights.values()), "bits/weight")
    yield Row("MiniLM at 0.25 sigma: load_file", 1e3 * statistics.median(seconds["ours"]), "ms")
    yield Row("MiniLM in float32: torch.load", 1e3 * statistics.median(seconds["torch"]), "ms")
    yield Row("load_file / torch.load", ratio(seconds["ours"], seconds["torch"]), "x", "<= 1")
    yield Row("load_file / torch.load, processor time of all threads", ratio(work["ours"], work["torch"]), "x")
    yield Row("load_file: peak memory beyond the decoded tensors", peak / 2**20, "MB", "<= 64")


def peak_of_loading(file: str) -> int:
    """Bytes that loading takes at most beyond the decoded tensors."""

    from noworse import load_file

    before = kilobytes("VmRSS")
    decoded = sum(t.numel() * t.element_size() for t in load_file(file).values())
    return (kilobytes("VmHWM") - before) * 1024 - decoded


def kilobytes(what: str) -> int:
    """What the system says of this process (Linux)."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0])


def quantized(weight: np.ndarray) -> Grid | Raw | Constant:
    """Matrices at a step of 0.25 sigma, which takes about 4 bits; vectors as they are."""
    if weight.ndim < 2:
        return Raw(weight.tobytes(), weight.shape, "float32")
    step = 0.25 * float(weight.std())
    return Grid(np.rint(weight / step).astype(np.int32).reshape(-1), pack_step(step), 32, weight.shape, "float32")


def symbols_section(make: Callable[[bool], Symbols], run: Run) -> Iterator[Row]:
    """All rows on one kind of symbols."""
    symbols, count = make(run.quick), rounds_of(run)
    yield from size_rows(symbols)
    yield from speed_rows(symbols, count)
    yield from constriction_rows(symbols, count)
    yield from determinism_rows(symbols)


def rounds_of(run: Run) -> int:
    """How many rounds speeds are medians of."""
    return 3 if run.quick else 15


def minilm_of(quick: bool) -> Symbols:
    """MiniLM's matrices."""
    return minilm(minilm_path(), quick=quick)


def load_section(run: Run) -> Iterator[Row]:
    """The rows on loading."""
    return load_rows(minilm_path(), rounds_of(run))


SUITE = Suite(
    "codec",
    __doc__,
    {
        "minilm": partial(symbols_section, minilm_of),
        **{f"laplacian-{bits}": partial(symbols_section, partial(laplacian, bits)) for bits in (0.5, 1.5, 3.0, 5.0)},
        "load": load_section,
    },
)

if __name__ == "__main__":
    main(SUITE)
