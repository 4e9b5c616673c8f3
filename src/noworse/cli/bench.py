"""``noworse bench``: how fast the user's own file is coded, and how near its size is to the entropy of its codes."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from noworse.checkpoint import is_checkpoint
from noworse.errors import BadInput

HELP = "measure coding speed and size against entropy on a .nwt file, or on a model file stored losslessly"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("file", metavar="FILE", help="a .nwt file, or a model file such as .safetensors")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="medians are of so many rounds (default 5)")
    parser.add_argument("--max-bytes", type=int, metavar="N", help="refuse to decode more than this")


def run(arguments: argparse.Namespace) -> int:
    """Measure the file, or one made of it, and print what was measured."""
    from noworse.report.bench import bench_file

    if arguments.rounds < 1:
        raise BadInput(f"--rounds {arguments.rounds}: expected 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(arguments.file)
        if is_checkpoint(arguments.file):
            from noworse.datafree.files import compress_file

            path = Path(folder) / "lossless.nwt"
            compress_file(arguments.file, path, lossless=True)
        measured = {"file": arguments.file, **bench_file(path, arguments.rounds, arguments.max_bytes)}
    print(json.dumps(measured) if arguments.json else render(measured))
    return 0


def render(found: dict[str, Any]) -> str:
    """Return measurements as text."""
    size, entropy = found["size"], found["entropy_bytes"]
    lines = [
        f"{found['file']}: {size:,} bytes for {found['decoded_bytes']:,} decoded, {found['symbols']:,} coded symbols",
        f"payload and tables {found['coded_bytes']:,} bytes, order-0 entropy {entropy:,.0f}: "
        + (f"{found['coded_bytes'] / entropy:.4f} of it" if entropy else "nothing is coded"),
    ]
    for what in ("encode", "decode"):
        speed = found[what]
        lines.append(
            f"{what}: {speed['seconds']:.4f} s, {speed['megabytes_per_second']:,.0f} MB/s of decoded bytes, "
            f"{speed['symbols_per_second'] / 1e6:,.1f} M symbols/s"
        )
    lines.append(f"load_file with {found['framework']}: {found['load_seconds']:.4f} s")
    if found["safetensors_seconds"] is not None:
        lines[-1] += f"; the same tensors from safetensors: {found['safetensors_seconds']:.4f} s"
    return "\n".join([*lines, f"medians of {found['rounds']} rounds, files in the system's cache"])
