"""The native coder compiled with AddressSanitizer and UndefinedBehaviorSanitizer: any slip ends the program."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from fuzz.mutate import damaged
from noworse.codec import BLOCK, Scales, encode
from noworse.codec._native import Tables
from noworse.errors import CorruptFile
from tests.codec.streams import decode

pytestmark = pytest.mark.sanitize
COUNTS = {
    "tiny": 40,
    "small": 900,
    "escapes": 900,
    "wide": 3000,
    "classes": 16384,
    "8 lanes": 66_000,
    "16 lanes": 140_000,
    "32": BLOCK,
}


@pytest.fixture(scope="module")
def driver(compile_native: Callable[..., Path]) -> Path:
    return compile_native("driver.cpp")


def run(driver: Path, *arguments: str) -> list[str]:
    found = subprocess.run([driver, *arguments], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-4000:]
    return found.stdout.splitlines()


def test_random_streams_and_their_damaged_blocks(driver: Path) -> None:
    assert run(driver, "self", "1", "300") == ["300 rounds"]


@pytest.mark.skipif(shutil.which("clang++") is None, reason="there is no clang++ (apt-get install clang)")
def test_clang_takes_the_coder_without_a_warning_and_finds_nothing_in_it(compile_native: Callable[..., Path]) -> None:
    flags = ["-O1", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    assert run(compile_native("driver.cpp", *flags, compiler="clang++"), "self", "1", "30") == ["30 rounds"]


def stream(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    codes = np.rint(rng.laplace(scale=300 if kind == "wide" else 1.5, size=COUNTS[kind])).astype(np.int32)
    if kind == "escapes":
        codes[:3] = [1 << 30, -(1 << 30), 5000]
    if kind == "classes":
        codes *= 1 + np.arange(len(codes), dtype=np.int32) // 128 % 3
    return codes


@dataclass(frozen=True)
class Case:
    table: bytes
    block: bytes
    count: int
    scales: Scales | None

    def write(self, out: BinaryIO) -> None:
        """See ``replay`` in driver.cpp."""
        out.write(struct.pack("<II", self.count, self.scales is not None))
        lists = [np.frombuffer(self.table, np.uint8), np.frombuffer(self.block, np.uint8)]
        for values in [*lists, *(self.scales or (np.zeros(0, np.int32), np.zeros(0, np.int32)))]:
            out.write(struct.pack("<I", len(values)) + values.tobytes())

    def outcome(self) -> str:
        """What the module that users have makes of it."""
        try:
            if Tables(self.table, self.scales is not None).constant:
                return "refused"  # the driver knows no constant streams
            out = decode(self.table, [self.block], self.count, self.scales)
        except (ValueError, CorruptFile):
            return "refused"
        weights = np.arange(1, self.count + 1, dtype=np.uint64)
        return str(int(np.sum(weights * out.astype(np.int64).astype(np.uint64), dtype=np.uint64)))


def cases(kind: str, rounds: int) -> list[Case]:
    """Honest and damaged tables, honest and damaged blocks, true and false counts and scales."""
    rng, codes = random.Random(kind), stream(kind)
    coded, found = encode(codes, columns=128 if kind == "classes" else 0), []
    assert (coded.scales is not None) == (kind == "classes")
    for number in range(rounds):
        table = damaged(coded.table, rng) if number % 3 == 1 else coded.table
        block = coded.blocks[0] if number % 3 == 0 else damaged(coded.blocks[0], rng)
        scales = coded.scales
        if scales is not None and number % 4 == 3:
            scales = scales[0].copy(), scales[1]
            scales[0][rng.randrange(len(scales[0]))] = rng.choice([0, 5, 31, 32, -1])
        count = len(codes) if kind == "classes" else rng.choice([len(codes), len(codes), rng.randint(1, len(codes))])
        found.append(Case(table, block, count, scales))
    return found


@pytest.mark.parametrize("kind", COUNTS)
def test_the_fuzz_corpus_decodes_alike_with_and_without_sanitizers(driver: Path, tmp_path: Path, kind: str) -> None:
    corpus = cases(kind, 1200 if COUNTS[kind] < 10_000 else 90)
    with (tmp_path / "corpus").open("wb") as out:
        for case in corpus:
            case.write(out)
    found = run(driver, "replay", str(tmp_path / "corpus"))
    assert found == [case.outcome() for case in corpus]
    assert "refused" in found
    assert any(line != "refused" for line in found)
