"""Integers to bytes and back: frequency tables and interleaved rANS; knows nothing of tensors or models."""

import sys

if sys.byteorder != "little":
    raise ImportError(f"noworse needs a little-endian machine, this one is {sys.byteorder}-endian")

from noworse.codec.rans import (
    BLOCK,
    Coded,
    CodedGrid,
    CodedPlanes,
    Decoding,
    Encoded,
    Scales,
    decode_into,
    encode,
    fingerprint,
)

__all__ = [
    "BLOCK",
    "Coded",
    "CodedGrid",
    "CodedPlanes",
    "Decoding",
    "Encoded",
    "Scales",
    "decode_into",
    "encode",
    "fingerprint",
]
