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

def normalise(weights: NDArray[np.uint64], bits: int) -> NDArray[np.uint16]: ...
def crc32(data: NDArray[np.uint8]) -> int: ...
def fingerprint(data: NDArray[np.uint8], threads: int = 0) -> int: ...
def has_avx2() -> bool: ...
def encode(
    codes: NDArray[Any], columns: int = 0, threads: int = 0, simd: bool = True
) -> tuple[bytes, list[bytes], _Scales]: ...
def decode(
    tables: Tables,
    data: NDArray[np.uint8],
    lengths: Lengths,
    out: NDArray[Any],
    scales: _Scales = None,
    threads: int = 0,
    simd: bool = True,
) -> None: ...
def decode_grid(
    tables: Tables,
    data: NDArray[np.uint8],
    lengths: Lengths,
    out: NDArray[np.float32],
    step: float,
    edge: int,
    scales: _Scales = None,
    threads: int = 0,
    simd: bool = True,
    digest: bool = False,
) -> int: ...
def encode_context(codes: NDArray[np.int32], tensors: NDArray[np.uint64]) -> list[bytes]: ...
def decode_context(blocks: tuple[bytes, ...], out: NDArray[np.int32], tensors: NDArray[np.uint64]) -> None: ...
