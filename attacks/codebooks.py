"""Bad codebooks: a docstring says what each file is, the decorator what the reader must answer."""

from __future__ import annotations

import numpy as np

from attacks.base import attack, one
from attacks.forge import chunks_of, columns_of, forge, rechunk
from noworse.format import File
from noworse.format.chunks import encode_codes
from noworse.representation import Codebook

COUNT, ZERO, VALUES = 0, 1, 2  # where numbers of values, code 0 and values stand in the column of one codebook


def honest() -> File:
    """Forty elements of four values."""
    return one(Codebook.from_values(np.array([-1.5, 0, 0, 0, 0.25, 3] * 7, np.float32), "float32"))


def changed(at: int, value: bytes) -> bytes:
    """The honest file with other header fields."""
    fields = columns_of(honest())["codebooks"]
    return forge(honest(), codebooks=fields[:at] + value + fields[at + len(value) :])


@attack("codes from -1 to 4, expected -1 to 2")
def code_without_value() -> bytes:
    """A code beyond the values: an index into whatever follows them in memory."""
    codes = np.array([-1, 0, 0, 0, 1, 4] * 7, np.int32)
    return rechunk(honest(), [encode_codes(codes), *chunks_of(honest())[1:]])


@attack("number 9 of code 0")
def code_of_no_value() -> bytes:
    """Code 0 stands for a value that the codebook lacks."""
    return changed(ZERO, b"\x09")


@attack("the index ends within values of codebooks")
def values_without_bytes() -> bytes:
    """256 values of which the index holds four."""
    text = b"".join(columns_of(honest())[what] for what in ("names", "shapes", "ties", "streams", "codebooks"))
    at = len(text) - len(columns_of(honest())["codebooks"])
    return forge(honest(), text=text[:at] + b"\xff" + text[at + 1 :])


@attack("the values of a codebook do not ascend")
def values_twice() -> bytes:
    """Values that are all the same, so that many files mean one tensor."""
    return changed(VALUES, bytes(16))
