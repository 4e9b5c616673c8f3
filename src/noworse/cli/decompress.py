"""``noworse decompress``: a .nwt file back to safetensors, with numpy alone.

A safetensors file is a little-endian u64 header length, a JSON header of dtype, shape and byte range by name, and the
data without gaps. It knows no ties: tied tensors are written out in full, so that every name loads strictly, and the
metadata entry "noworse.ties" tells which names share storage.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any, BinaryIO

import numpy as np

from noworse.errors import BadInput
from noworse.format import File
from noworse.format.atomic import atomic_file
from noworse.format.index import TIED
from noworse.representation import find_dtype

HELP = "decode a .nwt file into a .safetensors file"
DTYPES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "complex64": "C64",
}
ALIGNMENT = 8  # of the data in the file, by spaces behind the header


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("file", metavar="FILE", help="the .nwt file")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--max-bytes", type=int, metavar="N", help="refuse to decode more than this")


def run(arguments: argparse.Namespace) -> int:
    """Decode the file, checking its digest, and write the other one whole or not at all."""
    with File(arguments.file, arguments.max_bytes) as file, atomic_file(arguments.out) as out:
        size = write_safetensors(file, out)
        count = len(file.names)
    if arguments.json:
        print(json.dumps({"file": arguments.file, "out": arguments.out, "tensors": count, "size": size}))
    else:
        print(f"{arguments.out}: {count} tensors, {size:,} bytes")
    return 0


def write_safetensors(file: File, out: BinaryIO) -> int:
    """Write all tensors of ``file`` bit for bit, holding one at a time; returns the size in bytes."""
    header, starts, size = _layout(file)
    out.write(header)
    for name, content in file.stored():
        elements = file.representation(content).storage() if isinstance(content, str) else content
        out.seek(len(header) + starts[name])
        out.write(np.ascontiguousarray(elements).tobytes())
    return len(header) + size


def _layout(file: File) -> tuple[bytes, dict[str, int], int]:
    """The header, where each tensor starts behind it, and the bytes of all; wide elements first, which aligns them."""
    entries = {name: file.entry(name) for name in file.names}
    signatures = {name: entry.signature for name, entry in entries.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    ties = {name: file.names[entry.target] for name, entry in entries.items() if entry.signature.kind == TIED}
    if ties:
        header["__metadata__"]["noworse.ties"] = json.dumps(ties)
    starts: dict[str, int] = {}
    end = 0
    for name in sorted(signatures, key=lambda name: (-find_dtype(signatures[name].dtype).itemsize, name)):
        dtype, shape = signatures[name].dtype, signatures[name].shape
        if dtype not in DTYPES:
            raise BadInput(f"tensor {name!r} has dtype {dtype}, which safetensors cannot hold")
        if name == "__metadata__":
            raise BadInput("a tensor is called '__metadata__', which safetensors keeps for itself")
        starts[name] = end
        end += math.prod(shape) * find_dtype(dtype).itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [starts[name], end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, starts, end
