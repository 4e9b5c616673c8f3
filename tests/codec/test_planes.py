"""Byte planes decoded straight to elements: those of any plane coded or not, and every damage told."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from noworse.codec import BLOCK, Coded, CodedPlanes, Decoding, encode, fingerprint
from noworse.errors import CorruptFile
from noworse.representation.raw import join, split

N = 2 * BLOCK + 70_001


def elements(dtype: str) -> np.ndarray:
    """Elements whose planes suit every kind of stream: few symbols, noise, one value, far outliers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=N)
    x[::50_000] *= 1e30
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype) if dtype.startswith("float") else (x * 1000).astype(dtype)


def stream(plane: np.ndarray, coded: bool) -> Coded:
    """A plane as a file holds it, with its checksums."""
    if coded:
        found = encode(plane)
        table, blocks = found.table, found.blocks
    else:
        table, blocks = b"", tuple(plane[i : i + BLOCK].tobytes() for i in range(0, plane.size, BLOCK))
    checksums = [zlib.crc32(block, zlib.crc32(table) if i == 0 else 0) for i, block in enumerate(blocks)]
    return Coded(b"".join([table, *blocks]), len(table) if coded else None, list(map(len, blocks)), checksums)


def decoded(planes: list[list[Coded]], nbytes: int, rotate: bool, threads: int = 0, simd: int = 3) -> np.ndarray:
    out = np.zeros(nbytes, np.uint8)
    (result,) = Decoding([CodedPlanes(planes, out, rotate)], threads, simd, digest=True).results()
    if isinstance(result, CorruptFile):
        raise result
    assert result == fingerprint(out)
    return out


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "int32", "int64"])
@pytest.mark.parametrize("coded", ["none", "last", "first", "all"])
def test_elements_come_back(dtype: str, coded: str) -> None:
    data = elements(dtype).tobytes()
    planes = list(split(data, dtype))
    which = {"none": [], "last": [len(planes) - 1], "first": [0], "all": range(len(planes))}[coded]
    streams = [[stream(plane, p in which)] for p, plane in enumerate(planes)]
    for threads, simd in ((1, 3), (1, 2), (2, 1), (2, 0)):
        out = decoded(streams, len(data), dtype.startswith("float"), threads, simd)
        assert out.tobytes() == data == join(planes, dtype).tobytes()


def test_planes_of_one_value_and_of_escaped_ones() -> None:
    rng = np.random.default_rng(1)
    low, high = np.full(N, 7, np.uint8), np.rint(rng.normal(size=N)).astype(np.int8).view(np.uint8) + np.uint8(128)
    high[[5, BLOCK, N - 1]] = [3, 250, 255]
    expected = (high.astype(np.uint16) << 8 | low).view(np.uint8)
    out = decoded([[stream(low, True)], [stream(high, True)]], 2 * N, rotate=False)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int64"])
def test_a_plane_may_lie_in_a_stream_for_each_block(dtype: str) -> None:
    """Coded or not, of tables of their own, beside planes in one stream."""
    data = elements("float32" if dtype == "bfloat16" else dtype).tobytes()[: 2 * N if dtype == "bfloat16" else None]
    planes = list(split(data, dtype))
    streams = [pieces(plane, {0: "ccc", 1: "pcp"}.get(p, "ppc")) for p, plane in enumerate(planes)]
    streams[-1] = [stream(planes[-1], True)]
    for threads, simd in ((1, 2), (2, 0)):
        assert decoded(streams, len(data), "float" in dtype, threads, simd).tobytes() == data


def pieces(plane: np.ndarray, ways: str) -> list[Coded]:
    return [stream(plane[i * BLOCK : (i + 1) * BLOCK], way == "c") for i, way in enumerate(ways)]


@pytest.mark.parametrize("plane", [0, 1])
@pytest.mark.parametrize("block", [0, 1, 2])
def test_damage_is_told(plane: int, block: int) -> None:
    planes = list(split(elements("float16").tobytes(), "float16"))
    streams = [stream(planes[0], False), stream(planes[1], True)]
    damaged = bytearray(streams[plane].data)
    damaged[(streams[plane].table or 0) + sum(streams[plane].blocks[:block]) + 9] ^= 4
    streams[plane] = replace(streams[plane], data=bytes(damaged))
    with pytest.raises(CorruptFile, match=f"block {block} of 3 is damaged: its crc32 is"):
        decoded([[whole] for whole in streams], 2 * N, rotate=True)


def test_what_does_not_fit_is_told() -> None:
    planes = [[stream(np.zeros(9, np.uint8), False)] for _ in range(2)]
    with pytest.raises(CorruptFile, match="2, 4 or 8 bytes"):
        decoded([*planes, planes[0]], 27, rotate=False)
    with pytest.raises(CorruptFile, match="bytes"):
        decoded(planes, 16, rotate=False)
    with pytest.raises(CorruptFile, match="a plane of 1 blocks lies in 2 streams, expected one or as many"):
        decoded([planes[0], planes[1] * 2], 18, rotate=False)
    with pytest.raises(CorruptFile, match="lies in 0 streams"):
        decoded([planes[0], []], 18, rotate=False)
    large = pieces(np.zeros(N, np.uint8), "pcp")
    with pytest.raises(CorruptFile, match="another length than it has symbols"):
        decoded([large, [large[2], *large[:2]]], 2 * N, rotate=False)
    wide = [stream(np.arange(9, dtype=np.uint8), False)]
    far = encode(np.array([300, 301] * 4 + [300], np.int32))
    data = far.table + b"".join(far.blocks)
    with pytest.raises(CorruptFile, match="a stream of bytes has symbols from 300"):
        decoded([wide, [Coded(data, len(far.table), [len(b) for b in far.blocks])]], 18, rotate=False)
