"""Files from a forger who knows the format: any index, made up from nothing, with every checksum and the digest right.

Half of them are as a writer would make them: every kind, curves, classes, contexts, shared streams, ties and products
of any shape. In the others something in the index does not fit the rest.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from attacks.forge import seal
from fuzz.mutate import NUMBERS
from noworse.codec import BLOCK
from noworse.errors import CorruptFile, NoWorseError
from noworse.format import File
from noworse.format.chunks import Chunk, encode_bytes, encode_codes, encode_in_context, encode_matrix
from noworse.format.index import HEADER, OWN, SEVERAL, SHARED, Entry, Index, Stream, columns, deflate, tail
from noworse.format.parse import Use, lay_out
from noworse.representation import (
    BYTES,
    DTYPES,
    KINDS,
    Codebook,
    Constant,
    Form,
    Grid,
    Groups,
    Outliers,
    Raw,
    Signature,
    find_dtype,
)
from noworse.representation.codebook import Palette, _ranks
from noworse.representation.grid import PLAIN, Scale
from noworse.representation.outliers import Listed
from noworse.representation.product import Product

EXTENTS = (1, 1, 2, 3, 3, 4, 5, 7, 8, 16, 33, 64, 100)
LARGE = (1 << 10, 1 << 14, (1 << 18) - 1, (1 << 18) + 1, 1 << 20)
WORDS = (
    "weight",
    "bias",
    "a",
    "layer.0.",
    "ü",
    "名",
    "\n",
    "\x1b[31m",
    " ",
    "/",
    "../x",
    "__metadata__",
    "0.",
    "q" * 300,
)
VALUES = (None, True, -1, 0, 1, 1.5, 1e308, -1e-300, "", "x", "1%", [], {}, [1, [2]], {"a": {}}, "no worse", 10**30)
DIGEST = re.compile(r"the tensors decode to digest ([0-9a-f]{32})")


@dataclass
class Plan:
    """An index in the making."""

    entries: list[Entry] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    settings: bytes = b""
    verdict: bytes = b""

    def seal(self, digest: bytes = bytes(16)) -> bytes:
        """The file."""
        index = Index(self.entries, self.streams, self.settings, self.verdict, digest)
        text = b"".join(data for _, data in columns(index))
        return seal(HEADER + b"".join(self.data), deflate(text) + b"".join(d for _, d in tail(index)), len(text))


def invent(rng: random.Random) -> bytes:
    """A file; what could not be put in writing at all is tried again."""
    while True:
        plan = Plan()
        try:
            plan.entries = _entries(rng)
            wrong = rng.random() < 0.5
            if wrong and rng.random() < 0.7:
                rng.choice(BEFORE)(plan, rng)
            _fill(plan, rng)
            plan.settings, plan.verdict = _object(rng, "metadata", "activations", "factors"), _object(rng, *VERDICT)
            if wrong:
                for _ in range(rng.choice([0, 1, 1, 2])):
                    rng.choice(BEHIND)(plan, rng)
            return _with_digest(plan)
        except (ValueError, OverflowError, IndexError):  # negative numbers, too large ones, nothing to change
            continue


def _with_digest(plan: Plan) -> bytes:
    data = plan.seal()
    try:
        with File(data, max_bytes=16 << 20) as file:
            file.check()
    except NoWorseError as error:
        found = DIGEST.match(str(error))
        return plan.seal(bytes.fromhex(found[1])) if found else data
    return data


def _shape(rng: random.Random) -> tuple[int, ...]:
    kind = rng.random()
    if kind < 0.03:
        return tuple(rng.choice(NUMBERS) for _ in range(rng.randint(0, 9)))
    if kind < 0.05:
        return rng.choice([(rng.choice(LARGE),), (rng.choice((1, 2, 64)), rng.choice(LARGE[:3]))])
    return tuple(0 if rng.random() < 0.03 else rng.choice(EXTENTS) for _ in range(rng.choice((0, 1, 1, 2, 2, 2, 3, 4))))


def _signature(rng: random.Random) -> Signature:
    kind = rng.choice([kind for kind in KINDS.values() if not kind.refers and not kind.factors])
    dtype = rng.choice(list(kind.dtypes if rng.random() < 0.98 else DTYPES))
    width = kind.value_bytes(find_dtype(dtype))
    value = bytes([rng.randrange(2)]) if dtype == "bool" else rng.choice([bytes(width), rng.randbytes(width)])
    return Signature(kind, dtype, _shape(rng), value[:width])


def _entries(rng: random.Random) -> list[Entry]:
    """Tensors with names, and behind them the factors of products."""
    signatures = [_signature(rng) for _ in range(rng.randint(1, 4))]
    tied = [kind for kind in KINDS.values() if kind.refers]
    entries: list[Entry] = []
    factors: list[Entry] = []
    count = rng.choice((0, 1, 2, 3, 4, 6, 9)) if rng.random() < 0.98 else 300
    for number in range(count):
        name = "".join(rng.choice(WORDS) for _ in range(rng.randint(0, 3))) + (
            str(number) if rng.random() < 0.97 else ""
        )
        way = rng.random()
        if way < 0.15 and entries:
            target = rng.randrange(len(entries))
            own = entries[target].signature
            entries.append(Entry(name, Signature(rng.choice(tied), own.dtype, own.shape), None, target))
        elif way < 0.25:
            entries.append(rng.choice((_product, _groups))(name, rng, factors))
        else:
            signature = rng.choice(signatures)
            entries.append(Entry(name, signature, _fields(signature, rng), 0, _stream(signature, rng)))
    done = 0
    for number, entry in enumerate(entries):
        if entry.signature.kind.factors:
            entries[number] = entry._replace(target=len(entries) + done)
            done += entry.signature.kind.factors
    return entries + factors


def _product(name: str, rng: random.Random, factors: list[Entry]) -> Entry:
    spatial = rng.random() < 0.3
    shape = tuple(rng.choice(EXTENTS[4:]) for _ in range(4 if spatial else 2))
    rows = shape[0] * shape[3] if spatial else shape[0]
    others, dtype = int(np.prod(shape)) // rows, rng.choice(list(Product.dtypes))
    rank = rng.randint(1, max(1, rows * others // (rows + others)))
    for part in ((rows, rank), (rank, others)):
        signature = Signature(Grid, dtype, part)
        fields = _fields(signature, rng)
        factors.append(Entry("", signature, fields._replace(form=PLAIN) if rng.random() < 0.95 else fields))
    return Entry(name, Signature(Product, dtype, shape, bytes([spatial])), None)


def _groups(name: str, rng: random.Random, factors: list[Entry]) -> Entry:
    shape = tuple(rng.choice(EXTENTS[1:]) for _ in range(rng.randint(1, 3)))
    size, dtype, scale = int(np.prod(shape)), *(rng.choice(list(Groups.dtypes)) for _ in range(2))
    counts = [n for n in range(1, size + 1) if size % n == 0] if rng.random() < 0.95 else EXTENTS
    count = rng.choice(counts)
    shift = rng.choice(["uint8", scale]) if rng.random() < 0.95 else rng.choice(list(DTYPES))
    for part, own in (("uint8", shape), (scale, (count,)), (shift, (count,))):
        kind = rng.choice([Constant, Raw, *([Codebook] if part in Codebook.dtypes else [])])
        width = kind.value_bytes(find_dtype(part))
        signature = Signature(kind, part, own, bytes(width) if rng.random() < 0.5 else b"\x3c" * width)
        factors.append(Entry("", signature, _fields(signature, rng)))
    return Entry(name, Signature(Groups, dtype, shape), None)


def _stream(signature: Signature, rng: random.Random) -> int:
    if not signature.streams:
        return OWN
    matrix = issubclass(signature.kind, Grid) and signature.columns and signature.size >= 64
    several = matrix or (signature.kind.holds == BYTES and signature.size > BLOCK)
    ways = [OWN, OWN, SHARED, SHARED + rng.choice((0, 0, 1, 2, 4))] + [SEVERAL] * several
    return rng.choice(ways)


def _fields(signature: Signature, rng: random.Random) -> object:
    if signature.kind is Grid:
        step = rng.choice((30000, 30000, rng.randint(1, 65535), 1, 65535))
        return Scale(min(step, 0xFFFF), rng.choice((32, 40, 1, 255, rng.randint(1, 255))), _form(signature, rng))
    if not signature.kind.column:
        return None
    width = find_dtype(signature.dtype).itemsize
    if signature.kind is Outliers:
        end = min(signature.size + (rng.random() < 0.05), 1 << 62)
        places = sorted({rng.randrange(end) for _ in range(rng.choice((0, 1, 1, 1, 2, 9, 1030)))} if end else [])
        scale = _fields(replace(signature, kind=Grid), rng)
        return Listed(scale, np.array(places, "<u8").tobytes(), rng.randbytes(width * len(places)))
    if width > 8:  # no codebook has such values
        return Palette(rng.randbytes(width), width, 0)
    values = np.frombuffer(rng.randbytes(width * rng.choice((1, 2, 3, 16, 256))), f"<u{width}")
    values = np.unique(values)
    values = values[np.argsort(_ranks(values))]
    return Palette(values.tobytes(), width, rng.randrange(len(values)))


def _form(signature: Signature, rng: random.Random) -> Form:
    if rng.random() < 0.7 or not signature.size:
        return PLAIN
    curve = rng.choice(("linear", "log", "exp", "multiscale"))
    count = {"linear": 0, "multiscale": 5}.get(curve, 1)
    steps = tuple(rng.choice((0x7B55, 0x8000, rng.randint(1, 60000), 1)) for _ in range(count))
    channels = rng.randbytes(signature.shape[0]) if signature.shape and rng.random() < 0.5 else b""
    return Form(curve, steps, bytes(x & 15 for x in channels) if rng.random() < 0.8 else channels)


def _fill(plan: Plan, rng: random.Random) -> None:
    """Streams for all tensors, as the layout wants them; none where it makes no sense."""
    try:
        uses, _ = lay_out(plan.entries, 4096)
    except CorruptFile:
        uses = [Use(rng.random() < 0.5, False, count=rng.choice((0, 1, 5, 64))) for _ in range(rng.randint(0, 3))]
    if sum(use.count for use in uses) > 1 << 22:
        raise ValueError("too large to be made")
    chunks: list[Chunk] = []
    for number, use in enumerate(uses):
        if len(chunks) == number:  # those of classes come three at a time
            chunks += _chunks(plan, uses, number, use, rng)
    plan.streams = [chunk.stream for chunk in chunks]
    plan.data = [b"".join([chunk.table or b"", *chunk.blocks]) for chunk in chunks]


def _chunks(plan: Plan, uses: Sequence[Use], number: int, use: Use, rng: random.Random) -> list[Chunk]:
    entries = [plan.entries[tensor] for tensor in use.tensors]
    generator = np.random.default_rng(rng.randrange(1 << 30))
    if use.is_bytes:
        top = 2 if entries and entries[0].signature.dtype == "bool" else rng.choice((1, 2, 5, 256))
        data = generator.integers(0, top, use.count, dtype=np.uint8)
        return [*encode_bytes(data, use.count)] if use.count else [Chunk(None, [])]
    if use.scales:
        shape = uses[number].count, uses[number + 1].count
        scales = np.arange(shape[0])[:, None] % 5 + np.arange(shape[1]) % 4
        codes = np.rint(generator.laplace(size=shape) * 2.0**scales).astype(np.int32).reshape(-1)
        made = encode_matrix(codes, shape[1])
        return made if len(made) == 3 else [encode_codes(np.zeros(n, np.int32)) for n in (*shape, shape[0] * shape[1])]
    codes = np.concatenate([_codes(entry, generator, rng) for entry in entries] or [np.zeros(use.count, np.int32)])
    if rng.random() < 0.3 and use.count:
        return encode_in_context(codes, [entry.signature.shape for entry in entries], free=1 << 16)
    return [encode_codes(codes)]


def _codes(entry: Entry, generator: np.random.Generator, rng: random.Random) -> np.ndarray:
    size = entry.signature.size
    if issubclass(entry.signature.kind, Grid):
        scale = rng.choice((0.0, 0.4, 2.0, 300.0))
        codes = np.rint(generator.laplace(scale=scale, size=size)) if scale else np.full(size, rng.randint(-3, 3))
        if size and rng.random() < 0.1:
            codes[0] = rng.choice((1 << 30, -(1 << 30), 70_000))
        return codes.astype(np.int32)
    palette = entry.fields
    assert isinstance(palette, Palette)
    return generator.integers(-palette.zero, len(palette.values) // palette.width - palette.zero, size).astype(np.int32)


VERDICT = ("verdict", "samples", "original_loss", "compressed_loss", "mean_difference", "upper_bound", "lower_bound",
           "tolerance", "confidence", "look", "looks", "metric_original")  # fmt: skip


def _object(rng: random.Random, *names: str) -> bytes:
    """A JSON object, or what is none."""
    way = rng.random()
    if way < 0.4:
        return b""
    if way < 0.45:
        return rng.choice(
            (b"[]", b"null", b"{", b"[" * 9000, b'{"a":NaN}', b'{"a":1e999}', b"\xff", b'{"a":"\\ud800"}')
        )
    found = {name: rng.choice(VALUES) for name in names if rng.random() < 0.7}
    if way < 0.6 and "metadata" in names:
        found = {"metadata": {rng.choice(WORDS): rng.choice(WORDS) for _ in range(3)}}
    if way < 0.7 and "looks" in names:
        found = {
            **dict.fromkeys(names, 1.0),
            "verdict": "worse",
            "samples": 40,
            "look": 1,
            "looks": rng.choice((1, -1)),
        }
    return json.dumps(found, ensure_ascii=rng.random() < 0.5).encode()


def _change(name: str, value: Callable[[Entry, random.Random], object]) -> Callable[[Plan, random.Random], None]:
    def change(plan: Plan, rng: random.Random) -> None:
        at = rng.randrange(len(plan.entries))
        plan.entries[at] = plan.entries[at]._replace(**{name: value(plan.entries[at], rng)})

    return change


def _other_signature(entry: Entry, rng: random.Random) -> Signature:
    own, other = entry.signature, _signature(rng)
    way = rng.randrange(3)
    return Signature(
        own.kind, other.dtype if way == 1 else own.dtype, other.shape if way == 0 else own.shape, own.value
    )


def _other_value(entry: Entry, rng: random.Random) -> Signature:
    own = entry.signature
    return Signature(own.kind, own.dtype, own.shape, rng.randbytes(len(own.value)))


def _exchange(plan: Plan, rng: random.Random) -> None:
    """Two tensors, or a tensor and a factor, in each other's place."""
    a, b = rng.randrange(len(plan.entries)), rng.randrange(len(plan.entries))
    first, second = plan.entries[a], plan.entries[b]
    plan.entries[a], plan.entries[b] = second._replace(name=first.name), first._replace(name=second.name)


def _other_stream(plan: Plan, rng: random.Random) -> None:
    at = rng.randrange(len(plan.streams))
    stream = plan.streams[at]
    table, blocks, checks, in_context = stream.table, list(stream.blocks), list(stream.checksums), stream.in_context
    way = rng.randrange(5)
    if way == 0:
        table, in_context = None, not in_context
    elif way == 1 and blocks:
        blocks[rng.randrange(len(blocks))] = rng.choice((0, 1, 5, rng.choice(NUMBERS)))
    elif way == 2:
        table = rng.choice((0, 1, rng.choice(NUMBERS)))
    elif way == 3:
        plan.streams[at], plan.data[at] = rng.choice(list(zip(plan.streams, plan.data, strict=True)))
        return
    else:
        del plan.streams[at], plan.data[at]
        return
    plan.streams[at] = Stream(table, tuple(blocks), tuple(checks), in_context)


BEFORE: list[Callable[[Plan, random.Random], None]] = [
    _change("signature", _other_signature),
    _change("signature", _other_value),
    _change("target", lambda entry, rng: rng.choice((0, 1, 2, 5, rng.choice(NUMBERS)))),
    _change("stream", lambda entry, rng: rng.choice((0, 1, 2, 3, 4, 9, rng.choice(NUMBERS)))),
    _change("name", lambda entry, rng: rng.choice(("", "a", "weight0", "x" * 4096, "x" * 4097, "a\0b"))),
    _exchange,
]
BEHIND = [*BEFORE, _other_stream, _other_stream, _other_stream]
