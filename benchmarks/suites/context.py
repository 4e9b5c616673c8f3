"""Size and speed of files written with coder "max" against "fast".

Measured on the matrices of MiniLM and of the zoo's nets rounded to a step of their standard deviation, and on the files
given (``python -m benchmarks.context FILE.nwt ...``), whose tensors are written anew with both coders (those of
``benchmarks.l2``, for instance). Sizes are of whole files; times are processor time of one thread, and decoding
includes the digest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import Row, Run, Suite, main
from benchmarks.harness.page import ROOT
from benchmarks.suites.codec_symbols import entropy_bits, minilm_path
from noworse.format import File, pack
from noworse.representation import Grid, Representation, pack_step

WEIGHTS = ROOT / "zoo" / "weights"
NETS = ["lenet300", "lenet5", "resnet20", "vgg_small", "vit_tiny", "mobilenetv2", "minilm"]


def rounded(tensors: dict[str, np.ndarray]) -> dict[str, Representation]:
    """Grids of all matrices and kernels, with a step of one standard deviation."""
    found: dict[str, Representation] = {}
    for name, values in tensors.items():
        if values.ndim > 1 and values.dtype == np.float32:
            codes = np.rint(values / values.std()).astype(np.int32).reshape(-1)
            found[name] = Grid(codes, pack_step(float(values.std())), 32, values.shape, "float32")
    return found


def net_section(name: str, run: Run) -> Iterator[Row]:
    """The rows of MiniLM or one of the zoo's nets."""
    from safetensors.numpy import load_file

    path = minilm_path() if name == "minilm" else WEIGHTS / f"{name}.safetensors"
    return rows_of(f"{name} at 1 sigma", rounded(load_file(path)))


def files_section(run: Run) -> Iterator[Row]:
    """The rows of the files given."""
    for path in run.options.files:
        with File(path) as file:
            items = {name: file.representation(name) for name in file.names}
        yield from rows_of(path.stem, items)


def rows_of(name: str, items: dict[str, Representation]) -> Iterator[Row]:
    """Sizes and speeds of one case."""
    large = name.startswith("minilm")
    codes = [item.codes for item in items.values() if isinstance(item, Grid)]
    count = sum(part.size for part in codes)
    fast, begin = len(pack(items, {}, None)), time.process_time()
    data = pack(items, {}, None, "max")
    encoded = time.process_time()
    with File(data) as file:
        file.check()
    decoded = time.process_time()
    yield Row(f"{name}: fast", fast, "bytes")
    yield Row(f"{name}: max", len(data), "bytes")
    yield Row(f"{name}: max / fast", len(data) / fast, "", "<= 1")
    ideal = sum(map(entropy_bits, codes)) / 8
    yield Row(f"{name}: max / order-0 entropy", len(data) / ideal, "", "<= 0.974" if large else "")
    yield Row(f"{name}: encoding, max", count / (encoded - begin) / 1e6, "M codes/s", ">= 5" if large else "")
    yield Row(f"{name}: decoding, max", count / (decoded - encoded) / 1e6, "M codes/s", ">= 5" if large else "")


SUITE = Suite(
    "context",
    __doc__,
    {**{name: partial(net_section, name) for name in NETS}, "files": files_section},
    quick=(NETS[0], "files"),
    arguments=lambda parser: parser.add_argument("files", nargs="*", type=Path, metavar="FILE.nwt"),
)

if __name__ == "__main__":
    main(SUITE)
