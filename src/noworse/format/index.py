"""What an index says, the columns it is laid out in, and the bytes of all that surrounds the data of a file.

A column holds one thing for all tensors, so that deflate meets like bytes together. Tensors that agree in kind, dtype,
shape and (constants) value share one *signature*; a network has few of those, and they repeat from layer to layer.
What deflate cannot shrink (digest, checksums, low bytes of step sizes) stands behind the deflated columns as it is.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from noworse.errors import BadInput
from noworse.format import limits
from noworse.representation import KINDS, Representation, Signature, find_dtype
from noworse.representation.columns import varints

HEADER = b"\x89NWT\r\n" + struct.pack("<H", 1)  # magic, version
DIGEST_BYTES = 16
FURTHER = 255  # in the place of kinds from 8 on
# stream numbers of a tensor: its own; several of its own, of codes those with classes of rows and columns, of bytes one
# for each block; k + 2 for shared ones from k on
OWN, SEVERAL, SHARED = range(3)


class Entry(NamedTuple):
    """One tensor of the file; a tuple, since a file may have a million of them."""

    name: str
    signature: Signature
    fields: Any = None  # of the kind's header
    target: int = 0  # number of the tensor that this one refers to, or of the first of its factors
    stream: int = OWN


@dataclass(frozen=True, slots=True)
class Stream:
    """One chunk of the data: a frequency table (None: plain bytes or context-coded codes follow) and blocks."""

    table: int | None  # bytes
    blocks: tuple[int, ...]  # bytes
    checksums: tuple[int, ...]  # crc32 per block; the first one covers the table as well
    in_context: bool = False  # codes without a table

    @property
    def nbytes(self) -> int:
        """Bytes of table and blocks."""
        return (self.table or 0) + sum(self.blocks)


@dataclass(frozen=True)
class Index:
    """All that a file says about its data; streams of their own come first, in file order, shared streams last."""

    entries: Sequence[Entry]  # behind those with names, in the order of what they make, the factors, which have none
    streams: Sequence[Stream]
    settings: bytes = b""  # as JSON, kept as a writer wrote it
    verdict: bytes = b""
    digest: bytes = bytes(DIGEST_BYTES)

    @property
    def tensors(self) -> Sequence[Entry]:
        """Entries of the tensors with names."""
        return self.entries[: len(self.entries) - sum(entry.signature.kind.factors for entry in self.entries)]

    @cached_property
    def fields(self) -> list[tuple[type[Representation], bytes, bytes]]:
        """Kinds with header fields, those of their tensors as bytes that deflate may shrink, and as others."""
        signatures = [entry.signature for entry in self.entries]
        numbers = ((kind, numbers_of(kind, signatures)) for kind in KINDS.values() if kind.column)
        return [(kind, *kind.pack([self.entries[i].fields for i in mine])) for kind, mine in numbers if mine]


def numbers_of(kind: type[Representation], signatures: Sequence[Signature]) -> list[int]:
    """Return the numbers of the tensors that are of this kind."""
    return [i for i, signature in enumerate(signatures) if signature.kind.number == kind.number]


def columns(index: Index) -> Iterator[tuple[str, bytes]]:
    """Yield the columns to deflate, in order, each with the category its bytes are attributed to."""
    entries = index.entries
    signatures = list(dict.fromkeys(entry.signature for entry in entries))
    numbers = {signature: number for number, signature in enumerate(signatures)}
    yield "names", _names([entry.name.encode() for entry in index.tensors])
    yield "shapes", _signatures(signatures) + varints(numbers[entry.signature] for entry in entries)
    yield "ties", varints(entry.target for entry in entries if entry.signature.kind.refers)
    yield "streams", varints(entry.stream for entry in entries if entry.signature.streams)
    yield from ((kind.column, data) for kind, data, _ in index.fields)
    coded = (stream for stream in index.streams if stream.table is not None or stream.in_context)
    tables = varints(0 if stream.table is None else stream.table + 1 for stream in index.streams)  # they may be empty
    yield "lengths", tables + varints(length for stream in coded for length in stream.blocks)
    for what, text in (("settings", index.settings), ("verdict", index.verdict)):
        yield what, varints([len(text)]) + text


def tail(index: Index) -> Iterator[tuple[str, bytes]]:
    """Yield what follows the deflated columns, each part with its category."""
    yield from ((kind.column, data) for kind, _, data in index.fields if data)
    yield "checksums", b"".join(c.to_bytes(4, "little") for stream in index.streams for c in stream.checksums)
    yield "checksums", index.digest


def finish(index: Index) -> bytes:
    """Return the index and the trailer that stand behind the data; BadInput for more than a reader accepts."""
    text = b"".join(data for _, data in columns(index))
    if len(text) > limits.INDEX_BYTES:
        raise BadInput(f"an index of {len(text)} bytes, expected at most {limits.INDEX_BYTES}")
    names = sum(len(entry.name.encode()) for entry in index.entries)
    if names > limits.NAMES_BYTES:
        raise BadInput(f"names of {names} bytes together, expected at most {limits.NAMES_BYTES}")
    packed = deflate(text) + b"".join(data for _, data in tail(index))
    lengths = struct.pack("<II", len(packed), len(text))
    return packed + lengths + struct.pack("<I", zlib.crc32(lengths, zlib.crc32(packed, zlib.crc32(HEADER))))


def deflate(data: bytes) -> bytes:
    """Return data under raw deflate with the dictionary of format version 1."""
    stream = deflater()
    return stream.compress(data) + stream.flush()


def deflater() -> zlib._Compress:
    """Return an object that deflates data in parts, to the same bytes as ``deflate``."""
    return zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)


def digested(name: str, dtype: str, shape: tuple[int, ...], content: int | str | None) -> bytes:
    """Return what a tensor adds to the digest of a file (docs/format.md, section 6), a blake2b hash.

    ``content`` is the fingerprint of its elements, its target's name where it is tied, None where it has no elements.
    """
    data = _text(name) + _text(dtype) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    if isinstance(content, str):
        return data + _text(content)
    return data if content is None else data + struct.pack("<Q", content)


def _text(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def _names(names: Sequence[bytes]) -> bytes:
    """Front coding: the number of bytes shared with the name before, and the rest, closed by a zero byte."""
    shared = [_common(*pair) for pair in zip([b"", *names], names)]
    rest = b"".join(name[common:] + b"\0" for name, common in zip(names, shared, strict=True))
    return varints([len(names), *shared]) + rest


def _common(a: bytes, b: bytes) -> int:
    """Number of first bytes that agree, by halving: names may have thousands."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def _signatures(signatures: Sequence[Signature]) -> bytes:
    kinds = [(s.kind.number, find_dtype(s.dtype).code) for s in signatures]
    return (
        varints([len(signatures)])
        + bytes(code << 5 | dtype if code < 8 else FURTHER for code, dtype in kinds)
        + bytes(byte for pair in kinds if pair[0] >= 8 for byte in pair)
        + bytes(len(s.shape) for s in signatures)
        + varints(extent for s in signatures for extent in s.shape)
        + b"".join(s.value for s in signatures)
    )


# text that deflate may refer back to: usual names of tensors and keys of the two JSON texts, the most frequent last,
# where references are shortest; changing one byte makes existing files unreadable
DICTIONARY = (
    b'"batch":64,"confidence":0.95,"delta":0.25,"development":0.2,"distill":"cosine","mse","looks":3,"lr_steps":0.01,'
    b'"lr_weights":0.007,"lr_zones":0.02,"ramp":0.2,"rate_on_weights":true,"start":1.3,"warm_up":20,"zone":0.6,"task":'
    b'"original_bytes":"tool":"noworse 0.1.0","version":1,"tolerance":"1%"}'
    b'{"distill":"kl","iterations":2000,"seed":0,"target":"20.0"}'
    b'{"changed":0.0,"compressed_loss":0.0,"confidence":0.95,"looks":1,"lower_bound":-0.000,"mean_difference":-0.000,'
    b'"mean_kl":0.000,"metric_compressed":0.9,"metric_original":0.9,"original_loss":0.0,"samples":10000,'
    b'"tolerance":0.01,"upper_bound":0.000,"verdict":"inconclusive"improved"worse"no worse"}'
    b"embeddings.word_embeddings.position_embeddings.token_type_embeddings.pos_embed\0cls_token\0patch_embed.proj."
    b"attn.qkv.q_proj.k_proj.v_proj.out_proj.o_proj.mlp.gate_proj.up_proj.down_proj.wte.wpe.h.0.ln_1.ln_f.c_attn.c_fc."
    b"c_proj.lm_head.model.layers.0.self_attn.input_layernorm.post_attention_layernorm.encoder.layer.0.attention.self."
    b"query.weight\0key.value.attention.output.dense.LayerNorm.weight\0intermediate.dense.output.dense.pooler.dense."
    b"in_proj_weight\0in_proj_bias\0linear1.linear2.norm1.weight\0norm2.blocks.0.downsample.0.weight\0conv3.weight\0"
    b"features.0.0.classifier.1.fc1.weight\0fc2.shortcut.0.weight\0stem.head.fc.weight\0conv1.weight\0bn1.weight\0"
    b"layer1.0.conv1.weight\0conv2.weight\0bn2.weight\0bias\0running_mean\0var\0num_batches_tracked\0"
)
