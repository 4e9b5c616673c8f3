"""Integers to bytes and back: frequency tables and interleaved rANS; knows nothing of tensors or models."""

from __future__ import annotations

from noworse.codec.rans import BLOCK, Encoded, decode, encode

__all__ = ["BLOCK", "Encoded", "decode", "encode"]
