"""The honest files that are mutated: the small golden ones, and one made here per thing that they lack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attacks.forge import chunks_of, columns_of, small_model, tail_of
from noworse.format import File, pack
from noworse.format.chunks import Chunk
from noworse.representation import Form, Grid, Raw, Representation

GOLDEN = Path(__file__).parents[1] / "tests" / "format" / "golden"
LARGEST = 4096  # bytes


@dataclass(frozen=True)
class Seed:
    """A file, and its parts."""

    name: str
    file: File
    data: bytes
    columns: Mapping[str, bytes]
    tail: bytes
    chunks: tuple[Chunk, ...]


def seeds() -> list[Seed]:
    """All files, each dissected once."""
    files = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.nwt"))}
    files = {name: data for name, data in files.items() if len(data) <= LARGEST}
    made = {
        "empty": {},
        "model": small_model(),
        "forms": _forms(),
        "wide": _wide(),
        "blocks": _blocks(),
        "pieces": _pieces(),
    }
    files.update({name: pack(items, {"seed": 1}, {"samples": 3}) for name, items in made.items()})
    return [_dissect(name, data) for name, data in files.items()]


def _wide() -> dict[str, Representation]:
    """Frequencies of 14 bits, more than 256 symbols."""
    codes = np.random.default_rng(0).laplace(scale=150, size=1200).astype(np.int32)
    return {"wide": Grid(codes, 30000, 40, (30, 40), "float32")}


def _forms() -> dict[str, Representation]:
    """Curves, and rows with steps of their own."""
    codes = np.random.default_rng(1).laplace(scale=3, size=240).astype(np.int32)
    rows = np.arange(-6, 6, dtype=np.int8).tobytes()
    return {
        "log": Grid(codes, 30000, 40, (12, 20), "float32", Form("log", (0x7B55,), rows)),
        "exp": Grid(codes, 30000, 40, (12, 20), "bfloat16", Form("exp", (0x7B55,))),
        "multiscale": Grid(codes, 30000, 32, (12, 20), "float32", Form("multiscale", (0x8000, *range(0x7F00, 0x7F04)))),
    }


def _blocks() -> dict[str, Representation]:
    """A stream of two blocks, nearly all zeros."""
    codes = np.zeros(270_000, np.int32)
    codes[::9000] = 1
    return {"blocks": Grid(codes, 30000, 40, (270_000,), "float16")}


def _pieces() -> dict[str, Representation]:
    """Bytes with a stream for each block: of one value, coded, as they are."""
    words = np.zeros(270_000, np.int16)
    words[1 << 18 :: 9] = 1
    words[-200:] += np.arange(200, dtype=np.int16) << 8
    return {"pieces": Raw(words.tobytes(), (270_000,), "int16")}


def _dissect(name: str, data: bytes) -> Seed:
    file = File(data)
    return Seed(name, file, data, columns_of(file), tail_of(file), tuple(chunks_of(file)))
