from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

class Lengths:
    def __init__(self, blocks: Sequence[int], checksums: Sequence[int]) -> None: ...

class Tables:
    def __init__(self, data: bytes, classes: bool = False) -> None: ...
    def __len__(self) -> int: ...
    @property
    def constant(self) -> bool: ...
    @property
    def bounds(self) -> tuple[int, int]: ...
    def table(self, number: int = 0) -> tuple[int, NDArray[np.uint16], int, int, bool]: ...

_Scales = tuple[NDArray[np.int32], NDArray[np.int32]] | None

class Part: ...

class PlanePart:
    def __init__(self, tables: Tables | None, data: NDArray[np.uint8], lengths: Lengths) -> None: ...

class RawPart(Part):
    def __init__(self, planes: tuple[tuple[PlanePart, ...], ...], out: NDArray[np.uint8], rotate: bool) -> None: ...

class GridPart(Part):
    def __init__(
        self,
        tables: Tables,
        data: NDArray[np.uint8],
        lengths: Lengths,
        out: NDArray[np.float32],
        step: float,
        edge: int,
        scales: _Scales = None,
    ) -> None: ...

class Decoding:
    def __init__(self, parts: tuple[Part, ...], threads: int = 0, simd: int = 3, digest: bool = False) -> None: ...
    def results(self) -> list[int | str]: ...

def normalise(weights: NDArray[np.uint64], bits: int) -> NDArray[np.uint16]: ...
def crc32(data: NDArray[np.uint8], before: int = 0) -> int: ...
def fingerprint(data: NDArray[np.uint8], threads: int = 0) -> int: ...
def best_simd() -> int: ...
def encode(
    codes: NDArray[Any], columns: int = 0, threads: int = 0, simd: int = 2
) -> tuple[bytes, list[bytes], _Scales]: ...
def encode_bytes(
    data: NDArray[np.uint8], each: int, threads: int = 0, simd: int = 2
) -> list[tuple[bytes, list[bytes]] | None]: ...
def decode(
    tables: Tables,
    data: NDArray[np.uint8],
    lengths: Lengths,
    out: NDArray[Any],
    scales: _Scales = None,
    threads: int = 0,
    simd: int = 3,
) -> None: ...
def encode_plane(
    data: NDArray[np.uint8],
    width: int,
    plane: int,
    rotate: bool,
    out: NDArray[np.uint8],
    each: int,
    threads: int = 0,
    simd: int = 2,
) -> list[tuple[bytes, list[bytes]] | None]: ...
def estimated_bytes(codes: NDArray[Any], columns: int = 0) -> float: ...
def distinct(words: NDArray[Any], most: int, out: NDArray[np.int32]) -> NDArray[Any] | None: ...
def encode_context(codes: NDArray[np.int32], tensors: NDArray[np.uint64]) -> list[bytes]: ...
def decode_context(blocks: tuple[bytes, ...], out: NDArray[np.int32], tensors: NDArray[np.uint64]) -> None: ...
def take_plane(data: NDArray[np.uint8], width: int, plane: int, rotate: bool, out: NDArray[np.uint8]) -> None: ...
def put_planes(planes: list[NDArray[np.uint8]], rotate: bool, out: NDArray[np.uint8]) -> None: ...
def nearest(
    values: NDArray[Any], step: float, r: float, largest: float, out: NDArray[np.int32], threads: int = 0
) -> int: ...
def extent(values: NDArray[Any], most: float, threads: int = 0) -> tuple[float, int, float, float, float]: ...
def squares(before: NDArray[Any], after: NDArray[Any], threads: int = 0) -> tuple[float, float]: ...
def grid_values(
    codes: NDArray[np.int32], step: float, edge: int, out: NDArray[np.float32], threads: int = 0
) -> None: ...
def grid_squares(
    before: NDArray[Any], codes: NDArray[np.int32], step: float, edge: int, threads: int = 0
) -> tuple[float, float]: ...
def grid_fingerprint(codes: NDArray[np.int32], step: float, edge: int, threads: int = 0) -> int: ...
def costs(
    sample: NDArray[np.float64],
    steps: NDArray[np.float64],
    rs: NDArray[np.float64],
    bits: NDArray[np.float64],
    errors: NDArray[np.float64],
    threads: int = 0,
) -> None: ...
def quantise(
    latent: NDArray[np.float32],
    ends: NDArray[np.int64],
    ratio: NDArray[np.float32],
    steps: NDArray[np.float32],
    zones: NDArray[np.float32],
    out: NDArray[np.float32],
    delta: float,
    found: NDArray[np.float64],
    threads: int = 0,
    simd: int = 2,
) -> None: ...
def gradients(
    latent: NDArray[np.float32],
    ends: NDArray[np.int64],
    ratio: NDArray[np.float32],
    steps: NDArray[np.float32],
    zones: NDArray[np.float32],
    units: NDArray[np.float32],
    gradient: NDArray[np.float32],
    found: NDArray[np.float64],
    threads: int = 0,
    simd: int = 2,
) -> None: ...
def adam_step(
    weights: NDArray[np.float32],
    gradient: NDArray[np.float32],
    first: NDArray[np.uint16],
    second: NDArray[np.float32],
    rule: NDArray[np.float32],
    threads: int = 0,
    simd: int = 2,
) -> None: ...
