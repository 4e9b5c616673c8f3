"""``noworse inspect``: what is in a .nwt file, and where each of its bytes goes; with numpy alone."""

import argparse
import json
from typing import Any

from noworse.cli.text import bits, percent, table
from noworse.format import File

HELP = "show the tensors of a .nwt file, where every byte goes, the settings and the verdict"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("file", metavar="FILE", help="the .nwt file")
    parser.add_argument("--max-bytes", type=int, metavar="N", help="refuse to decode more than this")


def run(arguments: argparse.Namespace) -> int:
    """Decode every tensor once and print what it costs."""
    found = examine(arguments.file, arguments.max_bytes)
    print(json.dumps(found) if arguments.json else render(found))
    return 0


def examine(path: str, max_bytes: int | None = None) -> dict[str, Any]:
    """Return everything that the command shows, ready for JSON; sizes in bytes."""
    with File(path, max_bytes) as file:
        tensors = [_tensor(file, name) for name in file.names]
        own = [tensor for tensor in tensors if "tied_to" not in tensor and tensor["elements"]]
        weights = sum(tensor["elements"] for tensor in own)
        zeros = sum(tensor["sparsity"] * tensor["elements"] for tensor in own)
        return {
            "file": path,
            "size": file.size,
            "digest": file.digest,
            "elements": weights,
            "bits_per_element": 8 * file.size / weights if weights else None,
            "sparsity": zeros / weights if weights else None,
            "original_size": sum(tensor["decoded_bytes"] for tensor in own),
            "tensors": tensors,
            "bytes": file.attribution(),
            "settings": file.settings,
            "verdict": file.verdict,
        }


def _tensor(file: File, name: str) -> dict[str, Any]:
    found, size = file.representation(name), file.tensor_bytes(name)
    zeros = found.zeros() if found.size else None
    return {
        "name": name,
        "shape": list(found.shape),
        "dtype": found.dtype,
        "kind": found.label,
        "summary": str(found),
        "elements": found.size,
        "decoded_bytes": found.nbytes,
        "bytes": size,
        "bits_per_element": 8 * size / found.size if found.size else None,
        "sparsity": None if zeros is None else zeros / found.size,
        **found.details,
    }


def render(found: dict[str, Any]) -> str:
    """Return what ``examine`` returned as text."""
    size, elements = found["size"], found["elements"]
    total = sum(tensor["bytes"] for tensor in found["tensors"])
    rows = [_row(tensor) for tensor in found["tensors"]]
    rows.append(["all", f"{elements:,} elements", "", "", bits(8 * total, elements), "", f"{total:,}"])
    costs = [[name, f"{count:,}", percent(count / size)] for name, count in {**found["bytes"], "file": size}.items()]
    verdict = "none" if found["verdict"] is None else json.dumps(found["verdict"])
    return f"""{table(rows, ["tensor", "shape", "dtype", "kind", "bits", "zeros", "bytes"], "<<<<>>>")}

{table(costs, ["where the bytes go", "bytes", "share"], "<>>")}

{found["original_size"] / size:.2f} times smaller than {found["original_size"]:,} bytes; \
{bits(8 * size, elements)} bits per element in all
settings: {json.dumps(found["settings"])}
verdict: {verdict}
digest: {found["digest"]}"""


def _row(tensor: dict[str, Any]) -> list[str]:
    tied = "tied_to" in tensor
    return [
        tensor["name"],
        " x ".join(map(str, tensor["shape"])) or "scalar",
        tensor["dtype"],
        tensor["summary"],
        "" if tied else bits(8 * tensor["bytes"], tensor["elements"]),
        "" if tensor["sparsity"] is None else percent(tensor["sparsity"]),
        "" if tied else f"{tensor['bytes']:,}",
    ]
