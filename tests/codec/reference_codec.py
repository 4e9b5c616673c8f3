"""A second decoder of streams, written from docs/format.md alone: slow, plain."""

from __future__ import annotations

from fractions import Fraction
from itertools import count as numbers

BLOCK = 262144
SPREADS = [(1, 0), (3, 0), (6, 0), (10, 0), (9, 1), (9, 2), (9, 4), (9, 6)]


class Number:
    def __init__(self, data: bytes) -> None:
        self.x = int.from_bytes(data, "little")

    def bits(self, n: int) -> int:
        self.x, value = divmod(self.x, 2**n)
        return value

    def yes(self, t: int) -> bool:
        rest, slot = divmod(self.x, 16)
        found = slot >= 16 - t
        self.x = rest * t + slot - 16 + t if found else rest * (16 - t) + slot
        return found

    def gamma(self, order: int) -> int:
        n = next(i for i in numbers() if not self.yes(8))
        m = 2**n + self.bits(n)
        return (m - 1) * 2**order + self.bits(order)

    def signed(self, order: int) -> int:
        code = self.gamma(order)
        return code // 2 if code % 2 == 0 else -(code // 2) - 1

    def unary(self, t: int, order: int) -> int:
        steps = next((i for i in range(20) if not self.yes(t)), 20)
        steps += self.gamma(0) if steps == 20 else 0
        return steps * 2**order + self.bits(order)


def normalise(weights: list[int], bits: int) -> list[int]:
    f = [max(1, w * 2**bits // sum(weights)) if w else 0 for w in weights]
    while gap := 2**bits - sum(f):
        odd, choose = (1, max) if gap > 0 else (-1, min)  # both return the first of equals
        several = [k for k, w in enumerate(weights) if w and (gap > 0 or f[k] > 1)]
        f[choose(several, key=lambda k: Fraction(weights[k], 2 * f[k] + odd))] += odd
    return f


def read_tables(data: bytes, classes: bool = False) -> tuple[list[dict[str, object]], list[int]]:
    """Tables (lo, freqs, bits, golomb, single; bits 0 for a constant stream) and the table of each sum of scales."""
    n = Number(data)
    count, widths = 1, []
    if classes:
        count = n.bits(4) + 1
        widths = [n.gamma(0) + 1 for _ in range(count - 1)]
    elif n.bits(1) == 0:
        return [{"lo": n.signed(0), "freqs": [1], "bits": 0, "golomb": -1, "single": False}], [0] * 63
    bits = 14 if n.yes(4) else 12
    single = n.yes(4)
    tables = [{**read_levels(n, bits), "single": single} for _ in range(count)]
    of = [t for t, width in enumerate(widths) for _ in range(width)]
    return tables, of + [count - 1] * (63 - len(of))


def read_levels(n: Number, bits: int) -> dict[str, object]:
    golomb, escape = (n.gamma(1), n.gamma(1) + 1) if n.yes(4) else (-1, 0)
    peak = n.signed(0)
    below = n.gamma(2)
    above = below + n.signed(1)
    level = {0: n.gamma(4)}
    first = n.bits(4) + 1 if above + below else 1
    ratio, spread = (n.bits(4) + 1, n.bits(3)) if max(above, below) >= 2 else (1, 1)
    for j in range(1, max(above, below) + 1):
        for k in [k for k in (j, -j) if -below <= k <= above]:
            inner = level[k - 1] if k > 0 else level[k + 1]
            p = ((first if j == 1 else ratio) * inner + 8) // 16
            if k < 0 and j in level:
                p = (p + level[j] + 1) // 2
            ranking = [p] + [v for d in range(1, p + 1) for v in (p + d, p - d)]
            rank = n.unary(*SPREADS[spread])
            level[k] = ranking[rank] if rank < len(ranking) else rank
    weights = [level[k] ** 2 for k in range(-below, above + 1)] + ([escape**2] if escape else [])
    freqs = normalise(weights, bits)
    return {"lo": peak - below, "freqs": freqs, "bits": bits, "golomb": golomb}


def read_block(tables: list[dict[str, object]], block: bytes, classes: list[int]) -> list[int]:
    """The symbols of a block; ``classes`` says for each which table it has."""
    bits, m = tables[0]["bits"], len(classes)
    if bits == 0:
        assert block == b""
        return [tables[0]["lo"]] * m
    slots = [[(k, f, b) for k, f in enumerate(t["freqs"]) for b in range(f)] for t in tables]
    escapes, at, end = b"", 0, len(block)
    if any(t["golomb"] >= 0 for t in tables):
        at = next(i for i, byte in enumerate(block) if byte < 128) + 1
        end -= sum((byte & 127) << 7 * i for i, byte in enumerate(block[:at]))
        escapes = block[end:]
    lanes = 1 if tables[0]["single"] or m < 65536 else 16 if m < 131072 else 32
    rest = end - at
    size = 4 if lanes > 1 else rest if rest <= 4 else 4 - rest % 2
    states = [int.from_bytes(block[at + size * j : at + size * (j + 1)], "little") for j in range(lanes)]
    at += size * lanes
    words = [block[i] + 256 * block[i + 1] for i in range(at, end, 2)][::-1]
    out = []

    def step(x: int) -> int:
        k, f, b = slots[classes[len(out)]][x % 2**bits]
        out.append(k)
        x = f * (x // 2**bits) + b
        return x * 65536 + words.pop() if x < 65536 and (words or lanes > 1) else x

    main = m if lanes == 1 else m - 32 * lanes
    for i in range(main):
        states[i % lanes] = step(states[i % lanes])
    assert all(65536 <= x < 131072 for x in states[4:])
    words += [x - 65536 for x in reversed(states[4:])]
    for i in range(main, m):
        states[i % 4] = step(states[i % 4])
    assert states[:4] == ([0] if lanes == 1 else [65536] * 4)
    assert words == [0] * (len(words) % lanes)
    return resolve(out, escapes, [tables[c] for c in classes])


def resolve(symbols: list[int], data: bytes, tables: list[dict[str, object]]) -> list[int]:
    """Values of symbols, each with its table; those of escape symbols from the list."""
    stream = iter([byte >> b & 1 for byte in data for b in range(8)])

    def take(n: int) -> int:
        return sum(next(stream) << b for b in range(n))

    out = []
    for k, t in zip(symbols, tables, strict=True):
        lo, golomb, escape = t["lo"], t["golomb"], len(t["freqs"]) - 1
        if golomb < 0 or k < escape:
            out.append(lo + k)
            continue
        n = next(i for i in numbers() if next(stream))
        q = 2**n + take(n)
        u = (q - 1) * 2**golomb + take(golomb)
        out.append(lo - 1 - u // 2 if u % 2 else lo + escape + u // 2)
    left = list(stream)
    assert left == [0] * (len(left) % 8)
    return out


def read_stream(table: bytes, blocks: list[bytes], count: int, scales: list[list[int]] | None = None) -> list[int]:
    tables, of = read_tables(table, scales is not None)
    classes = [of[r + c] for r in scales[0] for c in scales[1]] if scales else [0] * count
    parts = [classes[i : i + BLOCK] for i in range(0, count, BLOCK)]
    return [v for block, part in zip(blocks, parts, strict=True) for v in read_block(tables, block, part)]
