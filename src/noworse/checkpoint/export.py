"""A .nwt file to safetensors, with numpy alone.

A safetensors file is a little-endian u64 header length, a JSON header of dtype, shape and byte range by name, and the
data without gaps. It knows no ties: tied tensors are written out in full, so that every name loads strictly. Its
metadata are those that came with the tensors; where none did, the entry "noworse.ties" tells which names share storage.
"""

import json
import math
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from noworse.checkpoint.base import TO_SAFETENSORS
from noworse.errors import BadInput
from noworse.format import File
from noworse.representation import find_dtype

LONGEST = 100_000_000  # bytes of a header
ALIGNMENT = 8  # of the data in the file, by spaces behind the header


def write_safetensors(file: File, out: BinaryIO) -> int:
    """Write all tensors of ``file`` bit for bit, holding one at a time; returns the size in bytes."""
    header, starts, size = _layout(file)
    out.write(header)

    def put(name: str, elements: NDArray[Any]) -> None:
        out.seek(len(header) + starts[name])
        out.write(np.ascontiguousarray(elements).reshape(-1).view(np.uint8).data)

    tied: dict[str, list[str]] = {}
    for name, content in file.stored():
        if isinstance(content, str):
            tied.setdefault(content, []).append(name)
        else:
            put(name, content)
    for target, names in tied.items():  # decoded once more, however many they are
        elements = file.representation(target).storage()
        for name in names:
            put(name, elements)
    return len(header) + size


def _layout(file: File) -> tuple[bytes, dict[str, int], int]:
    """The header, where each tensor starts behind it, and the bytes of all; wide elements first, which aligns them."""
    entries = {name: file.entry(name) for name in file.names}
    signatures = {name: entry.signature for name, entry in entries.items()}
    names = file.names
    ties = {name: names[entry.target] for name, entry in entries.items() if entry.signature.kind.refers}
    made = {"format": "pt", **({"noworse.ties": json.dumps(ties)} if ties else {})}
    header: dict[str, Any] = {"__metadata__": file.metadata or made}
    starts: dict[str, int] = {}
    end = 0
    for name in sorted(signatures, key=lambda name: (-find_dtype(signatures[name].dtype).itemsize, name)):
        dtype, shape = signatures[name].dtype, signatures[name].shape
        if dtype not in TO_SAFETENSORS:
            raise BadInput(f"tensor {name!r} has dtype {dtype}, which safetensors cannot hold")
        if name == "__metadata__":
            raise BadInput("a tensor is called '__metadata__', which safetensors keeps for itself")
        starts[name] = end
        end += math.prod(shape) * find_dtype(dtype).itemsize
        header[name] = {"dtype": TO_SAFETENSORS[dtype], "shape": list(shape), "data_offsets": [starts[name], end]}
    least = sum(len(json.dumps(name, ensure_ascii=False)) for name in header)  # before the text takes any memory
    text = b"" if least > LONGEST else json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    if max(least, len(text)) > LONGEST:
        found = max(least, len(text))
        raise BadInput(f"a header of {found} bytes or more, expected at most {LONGEST}, which is all safetensors reads")
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, starts, end
