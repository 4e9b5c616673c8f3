"""``noworse decompress``: a .nwt file back to safetensors, with numpy alone."""

import argparse
import json

from noworse.checkpoint import write_safetensors
from noworse.checkpoint.sharded import PICKLED
from noworse.errors import BadInput
from noworse.format import File
from noworse.format.source import atomic_file

HELP = "decode a .nwt file into a .safetensors file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("file", metavar="FILE", help="the .nwt file")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--max-bytes", type=int, metavar="N", help="refuse to decode more than this")


def run(arguments: argparse.Namespace) -> int:
    """Decode the file, checking its digest, and write the other one whole or not at all."""
    if arguments.out.endswith(PICKLED):
        raise BadInput(f"{arguments.out} is to be a .safetensors file: expected a name that ends so")
    with File(arguments.file, arguments.max_bytes) as file, atomic_file(arguments.out, arguments.file) as out:
        size = write_safetensors(file, out)
        count = len(file.names)
    if arguments.json:
        print(json.dumps({"file": arguments.file, "out": arguments.out, "tensors": count, "size": size}))
    else:
        print(f"{arguments.out}: {count} tensors, {size:,} bytes")
    return 0
