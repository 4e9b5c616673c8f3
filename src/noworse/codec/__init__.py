"""Integers to bytes and back: frequency tables and interleaved rANS; knows nothing of tensors or models."""

from __future__ import annotations

from noworse.codec.octets import decode_octets, encode_octets
from noworse.codec.rans import BLOCK, Encoded, decode, encode

__all__ = ["BLOCK", "Encoded", "decode", "decode_octets", "encode", "encode_octets"]
