"""The native coder compiled with AddressSanitizer and UndefinedBehaviorSanitizer: any slip ends the program."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fuzz.mutate import damaged
from noworse.codec import BLOCK, _native, encode
from noworse.codec.tables import parse
from noworse.errors import CorruptFile

DRIVER = Path(__file__).with_name("driver.cpp")
HEADERS = Path(__file__).parents[2] / "src" / "noworse" / "codec"
FLAGS = ["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SLIP = "int main(int n, char** v) { int a[2] = {n, n}; return v[0] ? a[n + 1] : 0; }"
COUNTS = {"tiny": 40, "small": 900, "escapes": 900, "wide": 3000, "8 lanes": 66_000, "16 lanes": 140_000, "32": BLOCK}


def compile_with_sanitizers(source: Path, program: Path) -> None:
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    subprocess.run([compiler, *FLAGS, "-I", HEADERS, source, "-o", program], check=True, timeout=300)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    (folder / "slip.cpp").write_text(SLIP)
    try:
        compile_with_sanitizers(folder / "slip.cpp", folder / "slip")
    except (OSError, subprocess.CalledProcessError):
        if os.environ.get("CI"):
            raise
        pytest.skip("the compiler has no sanitizers")
    found = subprocess.run([folder / "slip"], capture_output=True, text=True)
    assert found.returncode != 0, "the sanitizers overlook a slip"
    compile_with_sanitizers(DRIVER, folder / "driver")
    return folder / "driver"


def run(driver: Path, *arguments: str) -> list[str]:
    found = subprocess.run([driver, *arguments], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-4000:]
    return found.stdout.splitlines()


def test_random_streams_and_their_damaged_blocks(driver: Path) -> None:
    assert run(driver, "self", "1", "1000") == ["1000 rounds"]


def stream(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    codes = np.rint(rng.laplace(scale=300 if kind == "wide" else 1.5, size=COUNTS[kind])).astype(np.int32)
    if kind == "escapes":
        codes[:3] = [1 << 30, -(1 << 30), 5000]
    return codes


def model(table: bytes) -> tuple[int, np.ndarray, int, int, bool] | None:
    try:
        t = parse(table)
    except CorruptFile:
        return None
    return None if t.constant else (t.lo, t.freqs, t.bits, t.golomb, t.single)


def cases(kind: str, rounds: int) -> list[tuple[tuple[int, np.ndarray, int, int, bool], bytes, int]]:
    """Models from honest and damaged tables, honest and damaged blocks, true and false counts."""
    rng, codes = random.Random(kind), stream(kind)
    coded, found = encode(codes), []
    for number in range(rounds):
        made = model(damaged(coded.table, rng) if number % 3 == 1 else coded.table)
        block = coded.blocks[0] if number % 3 == 0 else damaged(coded.blocks[0], rng)
        if made is not None:
            found.append((made, block, rng.choice([len(codes), len(codes), rng.randint(0, len(codes))])))
    return found


def outcome(made: tuple[int, np.ndarray, int, int, bool], block: bytes, count: int) -> str:
    """What the module that users have makes of a case."""
    out = np.zeros(count, np.int32)
    try:
        _native.decode_block(block, out, *made)
    except ValueError:
        return "refused"
    weights = np.arange(1, count + 1, dtype=np.uint64)
    return str(int(np.sum(weights * out.astype(np.int64).astype(np.uint64), dtype=np.uint64)))


@pytest.mark.parametrize("kind", COUNTS)
def test_the_fuzz_corpus_decodes_alike_with_and_without_sanitizers(driver: Path, tmp_path: Path, kind: str) -> None:
    corpus = cases(kind, 1200 if COUNTS[kind] < 10_000 else 60)
    with (tmp_path / "corpus").open("wb") as out:
        for (lo, freqs, bits, golomb, single), block, count in corpus:
            out.write(struct.pack("<IiiiiI", count, lo, bits, golomb, single, len(freqs)) + freqs.tobytes())
            out.write(struct.pack("<I", len(block)) + block)
    found = run(driver, "replay", str(tmp_path / "corpus"))
    assert found == [outcome(*case) for case in corpus]
    assert "refused" in found
    assert any(line != "refused" for line in found)
