"""Mutations of honest files: blind ones, and ones that repair every checksum so that parser and decoder are reached."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from attacks.forge import NumberWriter, data_of, forge, rechunk, seal
from fuzz.seeds import Seed
from noworse.errors import CorruptFile
from noworse.format.chunks import Chunk
from noworse.format.index import deflate
from noworse.representation.columns import Cursor, varints

NUMBERS = [0, 1, 2, 5, 127, 128, 255, 256, 4096, 16384, 65535, 65536, 1 << 18, (1 << 18) + 1, 1 << 20, 1 << 24]
NUMBERS += [(1 << bits) + more for bits in (30, 31, 32, 40, 56, 62) for more in (-1, 0, 1)] + [(1 << 63) - 1]


def mutate(seeds: Sequence[Seed], rng: random.Random) -> tuple[bytes, bool]:
    """A damaged file, and whether its checksums were repaired: half of all are."""
    seed = rng.choice(seeds)
    if rng.random() < 0.5:
        return damaged(seed.data, rng), False
    return rng.choice(REPAIRED)(seed, rng), True


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four random changes."""
    changed = bytearray(data)
    for _ in range(1 + min(int(rng.expovariate(0.8)), 3)):
        rng.choice(CHANGES)(changed, rng.randrange(len(changed) + 1), rng)
    return bytes(changed)


def _flip(data: bytearray, at: int, rng: random.Random) -> None:
    if at < len(data):
        data[at] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, at: int, rng: random.Random) -> None:
    value = rng.choice(
        [b"\0", b"\1", b"\x7f", b"\x80", b"\xff", bytes(4), b"\xff" * 4, rng.randbytes(rng.randint(1, 8))]
    )
    data[at : at + len(value)] = value


def _insert(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = rng.randbytes(rng.randint(1, 8))


def _delete(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.choice([1, 1, 2, 4, 9, 100])]


def _copy(data: bytearray, at: int, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[at:at] = data[start : start + rng.randint(1, 40)]


def _cut(data: bytearray, at: int, _: random.Random) -> None:
    del data[at:]


def _number(data: bytearray, at: int, rng: random.Random) -> None:
    value = rng.choice(NUMBERS)
    data[at : at + 1] = rng.choice([varints([value]), struct.pack("<Q", value)[: rng.choice([2, 4, 8])]])


CHANGES: list[Callable[[bytearray, int, random.Random], None]]
CHANGES = [_flip, _flip, _overwrite, _insert, _delete, _copy, _cut, _number]


def _text(seed: Seed, rng: random.Random) -> bytes:
    """The inflated index, changed anywhere."""
    return forge(seed.file, text=damaged(b"".join(seed.columns.values()), rng))


def _column(seed: Seed, rng: random.Random) -> bytes:
    """One column changed, the others kept."""
    what = rng.choice(list(seed.columns))
    return forge(seed.file, **{what: damaged(seed.columns[what], rng)})


def _column_of_numbers(seed: Seed, rng: random.Random) -> bytes:
    """One number of a column changed to another one."""
    what = rng.choice(["names", "shapes", "ties", "streams", "lengths"])
    numbers, cursor = [], Cursor(seed.columns[what])
    try:
        while cursor.left:
            numbers.append(cursor.varint(what))
    except CorruptFile:  # texts among the numbers
        return _column(seed, rng)
    if numbers:
        at = rng.randrange(len(numbers))
        numbers[at] = rng.choice([rng.choice(NUMBERS), numbers[at] + 1, max(0, numbers[at] - 1), rng.choice(numbers)])
    return forge(seed.file, **{what: varints(numbers)})


def _tail(seed: Seed, rng: random.Random) -> bytes:
    """What follows the columns, changed."""
    return forge(seed.file, behind=damaged(seed.tail, rng))


def _packed(seed: Seed, rng: random.Random) -> bytes:
    """The deflated columns changed, so that inflating may fail or bring anything."""
    text = b"".join(seed.columns.values())
    length = len(text) if rng.random() < 0.8 else rng.choice(NUMBERS) % (1 << 32)
    return seal(data_of(seed.file), damaged(deflate(text) + seed.tail, rng), length)


def _streams(seed: Seed, rng: random.Random) -> bytes:
    """Tables and blocks changed, exchanged or random, with their lengths and checksums as they should be."""
    chunks = list(seed.chunks)
    for _ in range(rng.choice([1, 1, 2]) if chunks else 0):
        at = rng.randrange(len(chunks))
        table, blocks, in_context = chunks[at].table, list(chunks[at].blocks), chunks[at].in_context
        if table is not None and rng.random() < 0.5:
            other = rng.choice(chunks).table
            table = rng.choice(
                [damaged(table, rng), damaged(table, rng), rng.randbytes(rng.randint(0, 60)), other or b""]
            )
            table = table.rstrip(b"\0")
        elif table is not None and rng.random() < 0.1:
            table, in_context = None, True
        elif blocks:
            place = rng.randrange(len(blocks))
            coded = table is not None or in_context
            blocks[place] = damaged(blocks[place], rng) if coded else _same_length(blocks[place], rng)
        chunks[at] = Chunk(table, blocks, in_context)
    return rechunk(seed.file, chunks)


def _any_table(rng: random.Random) -> bytes:
    """The fields of tables in any order, with values at the limits of something."""
    out = NumberWriter()
    width = rng.choice([1, 1, 4])
    out.uniform(rng.randrange(1 << width), width)
    for _ in range(rng.randint(1, 30)):
        value = rng.choice([0, 0, 1, 2, 3, rng.randrange(80), 62, 63, rng.choice(NUMBERS) % (1 << 33)])
        field = rng.randrange(4)
        if field == 0:
            out.uniform(value % 16, 4)
        elif field == 1:
            out.more(value % 2 == 1, rng.choice([4, 8]))
        else:
            out.gamma(value, rng.choice([0, 0, 1, 2, 4]))
    return out.to_bytes()


def _same_length(block: bytes, rng: random.Random) -> bytes:
    changed = bytearray(block)
    _flip(changed, rng.randrange(len(changed) + 1), rng)
    return bytes(changed)


REPAIRED = [_text, _column, _column_of_numbers, _tail, _packed, _streams, _streams, _streams]
