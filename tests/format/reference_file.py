"""A second reader of whole files, written from docs/format.md alone: slow, plain, and trusting what it reads."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np

from tests.codec import reference_context
from tests.codec.reference_codec import read_stream
from tests.format.reference_kinds import DTYPES, KINDS, WIDTHS


def dictionary() -> bytes:
    """The deflate dictionary as the document shows it."""
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8").split("```")[-2]
    return text.replace("\n", "").replace("␀", "\0").encode()


class Columns:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        assert len(taken) == count
        return taken

    def varint(self) -> int:
        length = next(i for i, byte in enumerate(self.data, 1) if byte < 128)
        return sum((byte & 127) << 7 * i for i, byte in enumerate(self.take(length)))

    def varints(self, count: int) -> list[int]:
        return [self.varint() for _ in range(count)]

    def text(self) -> dict | None:
        data = self.take(self.varint())
        return json.loads(data) if data else None


def read(data: bytes) -> tuple[dict[str, tuple[str, tuple[int, ...], bytes]], dict | None, dict | None]:
    """Tensors as name -> (dtype, shape, bytes of the elements), settings, verdict."""
    assert data[:8] == bytes.fromhex("89 4E 57 54 0D 0A 01 00")
    packed, raw, checksum = struct.unpack("<III", data[-12:])
    start = len(data) - 12 - packed
    assert zlib.crc32(data[:8] + data[start:-4]) == checksum
    inflate = zlib.decompressobj(-15, dictionary())
    columns = Columns(inflate.decompress(data[start:-12]))
    assert len(columns.data) == raw
    tail = Columns(inflate.unused_data)
    tensors = read_tensors(columns)
    for kind in KINDS:
        kind.fields(columns, tail, [t for t in tensors if t["kind"] is kind])
    streams = list_streams(tensors)
    tables = columns.varints(len(streams))
    sizes = [[min(262144, s["count"] - i) for i in range(0, s["count"], 262144)] for s in streams]
    lengths = [
        columns.varints(len(size)) if table or stream["kind"].codes else size
        for stream, table, size in zip(streams, tables, sizes, strict=True)
    ]
    settings, verdict = columns.text(), columns.text()
    assert columns.data == b""
    body = Columns(data[8:start])
    for stream, table, blocks in zip(streams, tables, lengths, strict=True):
        stream["symbols"] = read_symbols(body, tail, table, blocks, stream)
    assert body.data == b""
    for part in (part for t in tensors for part in t["parts"] if "pieces" in part):
        part["symbols"] = np.concatenate([piece["symbols"] for piece in part["pieces"]])
    tensors = [t for t in tensors if t["name"] is not None]
    found = {t["name"]: (DTYPES[t["dtype"]], t["shape"], t["kind"].elements(t)) for t in tensors if not t["kind"].tied}
    order = {t["name"]: found[tensors[t["target"]]["name"] if t["kind"].tied else t["name"]] for t in tensors}
    assert tail.data == digest(tensors, order)
    return order, settings, verdict


def read_tensors(columns: Columns) -> list[dict]:
    n = columns.varint()
    names, before = [], b""
    for shared in columns.varints(n):
        rest = columns.data.split(b"\0", 1)[0]
        columns.take(len(rest) + 1)
        before = before[:shared] + rest
        names.append(before.decode())
    s = columns.varint()
    kinds = [(k // 32, k % 32) if k < 255 else (-1, -1) for k in columns.take(s)]
    kinds = [pair if pair[0] >= 0 else tuple(columns.take(2)) for pair in kinds]
    signatures = [
        {"kind": KINDS[kind], "dtype": dtype, "shape": tuple(columns.varints(d))}
        for (kind, dtype), d in zip(kinds, columns.take(s), strict=True)
    ]
    for signature in signatures:
        signature["value"] = columns.take(signature["kind"].value(WIDTHS[signature["dtype"]]))
    tensors = [{"name": name, **signatures[columns.varint()]} for name in names]
    for whole in list(tensors):
        whole["factors"] = [{"name": None, **signatures[columns.varint()]} for _ in range(whole["kind"].factors)]
    tensors += [factor for t in tensors for factor in t.get("factors", [])]
    for tensor in tensors:
        tensor["size"] = int(np.prod(tensor["shape"], dtype=object))
        if tensor["kind"].tied:
            tensor["target"] = columns.varint()
    for tensor in tensors:
        if (tensor["kind"].codes or tensor["kind"].plain) and tensor["size"]:
            tensor["stream"] = columns.varint()
    return tensors


def list_streams(tensors: list[dict]) -> list[dict]:
    """Streams in file order; every tensor gets the list of its own and where it starts in them."""
    own, shared = [], {}
    for tensor in tensors:
        if "stream" not in tensor:
            tensor["parts"], tensor["at"] = [], 0
            continue
        width = 1 if tensor["kind"].codes else WIDTHS[tensor["dtype"]]
        if tensor["stream"] == 1 and tensor["kind"].plain:
            tensor["at"], tensor["parts"] = 0, pieces(tensor, width)
            own += [piece for plane in tensor["parts"] for piece in plane["pieces"]]
            continue
        if tensor["stream"] < 2:
            rows, tensor["parts"] = tensor["shape"][:1], [empty(tensor) for _ in range(width)]
            if tensor["stream"] == 1:
                counts = (*rows, tensor["size"] // rows[0])
                tensor["parts"][0]["scales"] = [{"kind": tensor["kind"], "count": n} for n in counts]
                own += tensor["parts"][0]["scales"]
            own += tensor["parts"]
        else:
            tensor["parts"] = [shared.setdefault(tensor["stream"] - 2 + i, empty(tensor)) for i in range(width)]
        tensor["at"] = tensor["parts"][0]["count"]
        for part in tensor["parts"]:
            part["count"] += tensor["size"]
            part["shapes"].append(tensor["shape"])
    return own + [shared[i] for i in sorted(shared)]


def empty(tensor: dict) -> dict:
    return {"kind": tensor["kind"], "count": 0, "shapes": []}


def pieces(tensor: dict, width: int) -> list[dict]:
    """Planes of which each lies in a stream for each block."""
    assert tensor["size"] > 262144
    sizes = [min(262144, tensor["size"] - i) for i in range(0, tensor["size"], 262144)]
    return [{"pieces": [{"kind": tensor["kind"], "count": size} for size in sizes]} for _ in range(width)]


def read_symbols(body: Columns, tail: Columns, table: int, lengths: list[int], stream: dict) -> np.ndarray:
    stored = body.take(table - 1) if table else b""
    blocks = [body.take(length) for length in lengths]
    for i, block in enumerate(blocks):
        assert zlib.crc32(stored + block if i == 0 else block) == struct.unpack("<I", tail.take(4))[0]
    if table:
        scales = [scale["symbols"].tolist() for scale in stream.get("scales", [])]
        return np.array(read_stream(stored, blocks, stream["count"], scales or None))
    if stream["kind"].codes:
        return np.array(reference_context.read_stream(blocks, stream["shapes"]))
    return np.array(list(b"".join(blocks)))


def digest(tensors: list[dict], found: dict[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    for t in tensors:
        dtype, shape, data = found[t["name"]]
        total.update(text(t["name"]) + text(dtype))
        total.update(struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        if t["kind"].tied:
            total.update(text(tensors[t["target"]]["name"]))
        elif data:
            total.update(struct.pack("<Q", fingerprint(data)))
    return total.digest()


def text(characters: str) -> bytes:
    return struct.pack("<I", len(characters.encode())) + characters.encode()


def fingerprint(data: bytes) -> int:
    w = np.frombuffer(data + bytes(-len(data) % 8), "<u8")
    v = w ^ np.arange(1, len(w) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return int(np.sum(w + (v & np.uint64(0xFFFFFFFF)) * (v >> np.uint64(32))))
