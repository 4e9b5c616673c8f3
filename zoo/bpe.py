"""Byte-pair encoding (Gage 1994; Sennrich et al. 2016): a vocabulary of bytes and of pairs merged again and again.

Token number n < 256 is the byte n, token 256 + n what the n-th pair of ``merges`` makes. Texts are cut into words
first, each with the space in front of it, and no pair crosses words.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from noworse.errors import BadInput

BYTES = 256
WORD = re.compile(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s")

Pair = tuple[int, int]


def joined(tokens: Sequence[int], pair: Pair, new: int) -> tuple[int, ...]:
    """The tokens with every occurrence of ``pair``, from the left, replaced by ``new``."""
    found: list[int] = []
    for token in tokens:
        if found and (found[-1], token) == pair:
            found[-1] = new
        else:
            found.append(token)
    return tuple(found)


def learn(text: str, size: int) -> list[Pair]:
    """The merges of a vocabulary of ``size`` tokens: always the pair most frequent in the text (ties: the smallest).

    BadInput where it has too few.
    """
    counts = Counter(WORD.findall(text))
    words = [tuple(word.encode()) for word in counts]
    often = list(counts.values())
    frequency: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # words that hold a pair, or once did

    def count(index: int, sign: int) -> None:
        for pair in itertools.pairwise(words[index]):
            frequency[pair] += sign * often[index]
            where[pair].add(index)
            changed.add(pair)

    changed: set[Pair] = set()
    for index in range(len(words)):
        count(index, 1)
    heap: list[tuple[int, Pair]] = []
    merges: list[Pair] = []
    while len(merges) < size - BYTES:
        for pair in changed:
            heapq.heappush(heap, (-frequency[pair], pair))
        changed.clear()
        less, pair = heapq.heappop(heap)
        if -less != frequency[pair]:
            continue  # counted before it changed: its present count is further down
        if less == 0:
            raise BadInput(f"the text holds pairs for {BYTES + len(merges)} tokens: expected {size}")
        for index in where.pop(pair):
            count(index, -1)
            words[index] = joined(words[index], pair, BYTES + len(merges))
            count(index, 1)
        merges.append(pair)
    return merges


class Encoder:
    """Turns text into tokens of a vocabulary and back."""

    def __init__(self, merges: Sequence[Pair]) -> None:
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.tokens = [bytes([n]) for n in range(BYTES)]
        for left, right in merges:
            self.tokens.append(self.tokens[left] + self.tokens[right])
        self._word = functools.cache(self._encode_word)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        tokens = tuple(word.encode())
        while len(tokens) > 1:
            rank, pair = min((self.ranks.get(p, len(self.ranks)), p) for p in itertools.pairwise(tokens))
            if rank == len(self.ranks):
                break
            tokens = joined(tokens, pair, BYTES + rank)
        return tokens

    def encode(self, text: str) -> list[int]:
        return [token for word in WORD.findall(text) for token in self._word(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        return b"".join(self.tokens[token] for token in tokens).decode(errors="replace")


def write(path: Path, merges: Sequence[Pair]) -> None:
    """One pair a line, as two token numbers."""
    path.write_text("".join(f"{left} {right}\n" for left, right in merges))


def read(path: Path) -> Encoder:
    pairs = [line.split() for line in path.read_text().splitlines()]
    return Encoder([(int(left), int(right)) for left, right in pairs])
