"""A second decoder of context-coded streams, written from docs/context.md alone: slow, plain."""

from __future__ import annotations

from math import isqrt, prod

BLOCK = 262144


def clamp(x: int, most: int) -> int:
    return max(-most, min(most, x))


def logarithm(v: int) -> int:
    e = v.bit_length() - 1
    return 64 * e + 64 * v // 2**e - 64


def squashed() -> dict[int, int]:
    table, odds = {}, 2**30
    for x in range(3072):
        table[x] = min(2**46 // (2**30 + odds), 65535)
        table[-x] = 65536 - table[x]
        odds -= odds >> 8
    return table


SQUASH = squashed()
STRETCH = []
for _p in range(65536):
    _x = STRETCH[-1] if STRETCH else -3071
    while _x < 3071 and SQUASH[_x] < _p:
        _x += 1
    STRETCH.append(_x)


class Bits:
    """Binary decisions from the bytes of a block."""

    def __init__(self, block: bytes) -> None:
        assert block[-1:] != b"\0"
        self.block, self.at = block, 4
        self.low, self.high, self.value = 0, 2**32 - 1, int.from_bytes(block[:4].ljust(4, b"\0"), "big")

    def one(self, p: int) -> bool:
        split = self.low + ((self.high - self.low) * p >> 16)
        bit = self.value <= split
        if bit:
            self.high = split
        else:
            self.low = split + 1
        while self.low >> 24 == self.high >> 24:
            following = self.block[self.at] if self.at < len(self.block) else 0
            self.at += 1
            self.low = self.low * 256 % 2**32
            self.high = self.high * 256 % 2**32 + 255
            self.value = self.value * 256 % 2**32 + following
        return bit


class Mixer:
    def __init__(self, start: int, contexts: int, features: int, rates: tuple[int, int], limit: int) -> None:
        self.first = [start] * contexts + [0] * (features + 1)
        self.rates, self.limit = rates, limit
        self.counters, self.weights, self.curves, self.seen = {}, {}, {}, {}

    def decide(self, bits: Bits, places: list, features: list[int], group: int, curve: int) -> bool:
        found = [self.counters.setdefault((i, place), [2**21, 0]) for i, place in enumerate(places)]
        inputs = [STRETCH[q >> 6] for q, _ in found] + features + [256]
        weights = self.weights.setdefault(group, list(self.first))
        points = self.curves.setdefault(curve, [SQUASH[clamp(192 * (j - 16), 3071)] for j in range(33)])
        x = clamp(sum(a * b for a, b in zip(inputs, weights, strict=True)) >> 16, 3071)
        j, f = divmod(x + 3072, 192)
        corrected = (points[j] * (192 - f) + points[j + 1] * f) // 192
        d = bits.one(max(1, min(65535, (SQUASH[x] + corrected + 1) // 2)))
        error, seen = 65536 * d - SQUASH[x], self.seen.get(group, 0)
        s = min(self.rates[1], self.rates[0] + (seen >> 8).bit_length())
        self.seen[group] = seen + 1
        weights[:] = [clamp(w + ((a * error + 2 ** (s - 1)) >> s), 2**20) for a, w in zip(inputs, weights, strict=True)]
        points[j + (f >= 96)] += (65535 * d - points[j + (f >= 96)]) >> 7
        for counter in found:
            q, n = counter
            counter[:] = [q + (((4194303 * d - q) * (131072 // (2 * n + 3))) >> 16), min(n + 1, self.limit)]
        return d


class Tensor:
    """What is known of one tensor while it is decoded."""

    def __init__(self, rows: int, columns: int, taps: int, width: int) -> None:
        self.rows, self.columns, self.taps, self.width = rows, columns, taps, width
        self.kernel = taps > 1
        self.kind = 2 if self.kernel else int(rows > 1)
        self.codes, self.total, self.mean = [], 0, 0
        self.sums, self.signs = {}, {}

    def sum(self, *key: object) -> int:
        return self.sums.get(key, 0)

    def move(self, r: int, c: int, prior: int) -> None:
        """Surroundings of the code at row r, column c, which comes next."""
        g, w, k = self.taps, self.width, len(self.codes)
        i, t = divmod(c, g)
        self.r, self.c, self.i, self.t = r, c, i, t
        if k < 64 or k % 64 == 0:
            self.mean = (256 * self.total + 2 * prior) // (k + 2) + 1

        def at(distance: int, exists: bool) -> int:
            return self.codes[k - distance] if exists else 0

        inner, line = (t if self.kernel else c), self.kernel and t >= w
        self.left, self.left2 = at(1, inner >= 1), at(2, inner >= 2)
        self.up, self.up2, self.up3 = (at(n * self.columns, r >= n) for n in (1, 2, 3))
        self.before = at(g, self.kernel and c >= g)
        self.above, self.above2 = at(w, line), at(2 * w, line and t >= 2 * w)
        self.corner, self.right = at(w + 1, line and t % w >= 1), at(w - 1, line and t % w + 1 < w)
        self.lrow, self.lcolumn = self.ratio(self.sum("row", r), c), self.ratio(self.sum("column", c), r)
        self.lchannel = self.ratio(self.sum("channel", i), r * g + t)
        self.expected = self.lrow + self.lchannel - logarithm(self.mean)
        near = 2 * size(self.left) + size(self.left2) + 2 * size(self.up) + size(self.up2)
        if self.kernel:
            self.expected += self.ratio(self.sum("tap", t), r * self.columns // g + i) - logarithm(self.mean)
            self.local = logarithm(48 * (near + size(self.above) + size(self.before)) + self.mean)
        else:
            self.local = logarithm(64 * near + self.mean)
        self.slope = clamp(2 * self.left + 2 * self.above + self.corner + self.right, 15)
        self.inside, self.inside_size = self.signs.get(("kernel", r, i), 0), self.signs.get(("size", r, i), 0)

    def ratio(self, s: int, n: int) -> int:
        return logarithm(256 * s + 8 * self.mean) - logarithm(n + 8)

    def add(self, code: int) -> None:
        self.codes.append(code)
        self.total += size(code)
        for key in (("row", self.r), ("channel", self.i), ("column", self.c), ("tap", self.t)):
            self.sums[key] = min(self.sum(*key) + size(code), 2**32 - 1)
        sign = (code > 0) - (code < 0)
        gains = {("column", self.c): sign, ("row", self.r): sign, ("kernel", self.r, self.i): code}
        for key, gain in [*gains.items(), (("size", self.r, self.i), size(code))]:
            self.signs[key] = clamp(self.signs.get(key, 0) + gain, 64)


def size(code: int) -> int:
    return min(abs(code), 65535)


class Model:
    def __init__(self) -> None:
        self.sizes = Mixer(8000, 6, 3, (15, 17), 1023)
        self.signs = Mixer(16000, 2, 10, (12, 16), 127)
        self.priors = [2560, 256, 256]

    def code(self, bits: Bits, v: Tensor) -> int:
        n = 0
        while n < 31 and not self.decide(bits, v, min(n, 4), n):
            n += 1
        if n == 0:
            return 0
        digits = [1]
        for place in range(1, n):
            if place > 3:
                digits.append(int(bits.one(32768)))
                continue
            decision = [3 + min(n, 4), (8 if n == 3 else 10) + digits[-1], 12 + digits[min(1, place - 1)]][place - 1]
            digits.append(int(self.decide(bits, v, decision, n)))
        magnitude = sum(digit << (n - 1 - place) for place, digit in enumerate(digits))
        assert magnitude <= 2**30
        return -magnitude if self.negative(bits, v, min(magnitude, 3) - 1) else magnitude

    def decide(self, bits: Bits, v: Tensor, decision: int, n: int) -> bool:
        h = 64 * (n - 4) if n > 4 else 0

        def lev(value: int, step: int, most: int) -> int:
            return max(0, min(most, (value - 256 - h) // step))

        def digits(*codes: int) -> int:
            return sum(min(size(code), 3) << shift for code, shift in zip(codes, (6, 4, 2, 0), strict=True))

        e = lev(v.expected, 32, 23)
        around = 640 + 24 * lev(v.lcolumn, 32, 23) + lev(v.lchannel, 32, 23)
        if v.kernel:
            around = 64 * min(v.t, 9) + 8 * min(abs(v.inside), 7) + min(v.inside_size, 7)
        contexts = [
            256 + digits(v.left, v.above, v.corner, v.right) if v.kernel else digits(v.up, v.up2, v.up3, v.left),
            48 * v.kind + lev(v.expected, 16, 47),
            32 * e + lev(v.local, 32, 31),
            24 * lev(v.lcolumn, 24, 31) + lev(v.lrow, 32, 23),
            1 + 24 * abs(v.slope) + e if v.kernel else 0,
            around,
        ]
        features = [clamp(177 * (512 + h - value) >> 6, 2047) for value in (v.expected, v.lcolumn)]
        features.append(-64 * min(abs(v.above + v.left), 8) if v.kernel else 0)
        places = [(context, decision) for context in contexts]
        return self.sizes.decide(bits, places, features, 14 * v.kind + decision, 14 * e + decision)

    def negative(self, bits: Bits, v: Tensor, k: int) -> bool:
        tap = min(v.t, 24)
        s = [(x > 0) - (x < 0) + 1 for x in (v.left, v.above, v.inside)]
        contexts = [75 * (v.slope + 15) + 3 * tap + k, 27 * tap + 9 * s[0] + 3 * s[1] + s[2]] if v.kernel else [0, 0]
        around = [v.left, v.left2, v.before, v.up, v.inside, v.signs.get(("column", v.c), 0), v.corner]
        around += [v.above, v.right, v.above2] if v.kernel else [v.signs.get(("row", v.r), 0) >> 2, v.up2, 0]
        return self.signs.decide(bits, contexts, [-64 * clamp(x, 8) for x in around], 3 * v.kind + k, k)


def tensors(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    found, before = [], 1
    for shape in shapes:
        extents = list(shape)
        while extents and extents[0] == 1:
            extents.pop(0)
        if prod(shape) == 0:
            continue
        if len(extents) < 2:
            found.append(Tensor(1, prod(shape), 1, 1))
            continue
        columns = prod(extents[1:])
        taps, width = prod(extents[2:]), extents[-1] if len(extents) > 2 else 1
        if len(extents) == 2 and columns % before == 0 and isqrt(columns // before) ** 2 == columns // before:
            taps, width = columns // before, isqrt(columns // before)
        found.append(Tensor(extents[0], columns, taps, width))
        before = extents[0]
    return found


def read_stream(blocks: list[bytes], shapes: list[tuple[int, ...]]) -> list[int]:
    """The codes of all tensors, one after the other."""
    model, out, rest, bits = Model(), [], list(blocks), None
    for tensor in tensors(shapes):
        for k in range(tensor.rows * tensor.columns):
            if len(out) % BLOCK == 0:
                assert bits is None or bits.at >= len(bits.block)
                bits = Bits(rest.pop(0))
            tensor.move(*divmod(k, tensor.columns), model.priors[tensor.kind])
            code = model.code(bits, tensor)
            tensor.add(code)
            out.append(code)
        if tensor.rows * tensor.columns > 1:
            model.priors[tensor.kind] = 256 * tensor.total // len(tensor.codes) + 1
    assert not rest
    assert bits is None or bits.at >= len(bits.block)
    return out
