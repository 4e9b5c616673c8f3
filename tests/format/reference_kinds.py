"""The kinds of tensors, one class each: part of the second reader, written from docs/format.md alone."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tests.format.reference_codebook import ascending, in_rows
from tests.format.reference_curve import curve, minifloat, read_forms
from tests.format.reference_product import points, product

DTYPES = (  # noqa: SIM905
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 bfloat16 "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu complex64 complex128"
).split()
WIDTHS = [1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 2, 1, 1, 1, 1, 1, 8, 16]


class Kind:
    codes = plain = tied = False  # streams of codes, streams of bytes, the elements of another tensor
    factors = 0

    def value(self, width: int) -> int:
        return 0

    def fields(self, columns: object, tail: object, tensors: list[dict]) -> None:
        pass


class Constant(Kind):
    def value(self, width: int) -> int:
        return width

    def elements(self, t: dict) -> bytes:
        return t["value"] * t["size"]


class Raw(Kind):
    plain = True

    def elements(self, t: dict) -> bytes:
        words = [sum(byte << 8 * p for p, byte in enumerate(element)) for element in zip(*symbols(t), strict=True)]
        width = WIDTHS[t["dtype"]]
        if "float" in DTYPES[t["dtype"]]:
            words = [word >> 1 | (word & 1) << 8 * width - 1 for word in words]
        return b"".join(word.to_bytes(width, "little") for word in words)


class Grid(Kind):
    codes = True

    def fields(self, columns: object, tail: object, tensors: list[dict]) -> None:
        n = len(tensors)
        for t, h, e, w in zip(tensors, columns.take(n), columns.take(n), tail.take(n), strict=True):
            t["step"], t["edge"], t["curve"], t["shape of curve"], t["channels"] = 256 * h + w, e, 0, [], []
        read_forms(columns, [t for t in tensors if t["edge"] == 0])

    def elements(self, t: dict) -> bytes:
        across = t["size"] // t["shape"][0] if t["channels"] and t["size"] else 1
        rows = [t["channels"][i // across] if t["channels"] else 0 for i in range(t["size"])]
        pairs = list(zip(*symbols(t), rows, strict=True)) if t["size"] else []
        values = {pair: rounded(point(*pair, t), DTYPES[t["dtype"]]) for pair in set(pairs)}
        return b"".join(values[pair] for pair in pairs)


class Tied(Kind):
    tied = True


class Product(Kind):
    factors = 2

    def value(self, width: int) -> int:
        return 1

    def elements(self, t: dict) -> bytes:
        found = product(t, *map(points, t["factors"]))
        return b"".join(rounded(element, DTYPES[t["dtype"]]) for element in found)


class Codebook(Kind):
    codes = True

    def fields(self, columns: object, tail: object, tensors: list[dict]) -> None:
        sizes = [1 + byte for byte in columns.take(len(tensors))]
        for t, zero in zip(tensors, columns.take(len(tensors)), strict=True):
            t["zero"] = zero
        for t, size in zip(tensors, sizes, strict=True):
            t["values"] = in_rows(columns.take(size * WIDTHS[t["dtype"]]), size)
            assert ascending(t["values"])

    def elements(self, t: dict) -> bytes:
        codes = symbols(t)[0] if t["size"] else []
        assert all(0 <= code + t["zero"] < len(t["values"]) for code in codes)
        return b"".join(t["values"][code + t["zero"]] for code in codes)


class Outliers(Grid):
    def fields(self, columns: object, tail: object, tensors: list[dict]) -> None:
        super().fields(columns, tail, tensors)
        counts = columns.varints(len(tensors))
        for t, count in zip(tensors, counts, strict=True):
            t["places"] = [gap + 1 for gap in columns.varints(count)]
            t["places"] = [sum(t["places"][: i + 1]) - 1 for i in range(count)]
        for t, count in zip(tensors, counts, strict=True):
            t["values"] = in_rows(columns.take(count * WIDTHS[t["dtype"]]), count)

    def elements(self, t: dict) -> bytes:
        width = WIDTHS[t["dtype"]]
        elements = bytearray(super().elements(t))
        for place, value in zip(t["places"], t["values"], strict=True):
            elements[width * place : width * (place + 1)] = value
        return bytes(elements)


class Groups(Kind):
    factors = 3

    def elements(self, t: dict) -> bytes:
        codes, scales, shifts = (numbers(part["kind"].elements(part), DTYPES[part["dtype"]]) for part in t["factors"])
        points, size = DTYPES[t["factors"][2]["dtype"]] == "uint8", t["size"] // len(scales)
        assert np.isfinite([*scales, *shifts]).all()
        found = []
        for i, code in enumerate(codes):
            scale, shift = scales[i // size], shifts[i // size]
            with np.errstate(over="ignore"):
                value = scale * (code - shift) if points else np.float32(scale * code) + shift
            found.append(rounded(float(value), DTYPES[t["dtype"]]))
        return b"".join(found)


KINDS = [Constant(), Raw(), Grid(), Tied(), Product(), Codebook(), Outliers(), Groups()]


def numbers(elements: bytes, dtype: str) -> list[np.float32]:
    if dtype == "bfloat16":
        return list((np.frombuffer(elements, "<u2").astype(np.uint32) << 16).view(np.float32))
    return list(np.frombuffer(elements, dtype).astype(np.float32))


def symbols(t: dict) -> list[list[int]]:
    return [part["symbols"][t["at"] : t["at"] + t["size"]].tolist() for part in t["parts"]]


def point(code: int, row: int, t: dict) -> Fraction | float:
    s = minifloat(t["step"] + 16 * row)
    size = Fraction(0)
    if t["curve"] and code:
        size = (curve(t["curve"], t["shape of curve"], abs(code)) + (t["edge"] / 64 - 0.5)) * s
    elif code:
        size = (Fraction(t["edge"], 64) + abs(code) - Fraction(1, 2)) * Fraction(s)
    return size if code > 0 else -size


def rounded(exact: Fraction | float, dtype: str) -> bytes:
    with np.errstate(over="ignore"):
        single = np.float32(float(exact))
        if dtype != "bfloat16":
            return single.astype(dtype).tobytes()
    bits = int(single.view(np.uint32))  # half of the last place, one less where that place is even
    return (bits + 0x7FFF + (bits >> 16) % 2 >> 16).to_bytes(2, "little")
