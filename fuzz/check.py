"""One damaged file through the reader: CorruptFile or a whole file, and nothing else, in little time and memory."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from fuzz.mutate import mutate
from fuzz.seeds import Seed
from noworse.errors import CorruptFile
from noworse.format import File

MAX_BYTES = 16 << 20  # decoded; what a reader of the small files is told to accept
MEMORY = 192 << 20  # address space beyond that of the process: what MAX_BYTES may cost, and the reader's own 64 MiB
SMALL, LITTLE_MEMORY = 4096, 128_000_000  # bytes of a file, below which all of it must do with this
SECONDS = 1.0  # of processor time


def case(seeds: Sequence[Seed], seed: int, number: int) -> tuple[bytes, bool]:
    """The damaged file with this number, and whether its checksums were repaired."""
    return mutate(seeds, random.Random(f"{seed}:{number}"))


def read(data: bytes, repaired: bool, honest: frozenset[bytes]) -> str:
    """Open, account for and decode a file: "decoded" or "refused"; an AssertionError where damage went unnoticed."""
    try:
        with File(data, max_bytes=MAX_BYTES) as file:
            assert sum(file.attribution().values()) == file.size, "bytes are attributed twice or never"
            for name in file.names:
                file.tensor_bytes(name)
            file.check()
            for name in file.names:
                file.array(name)
    except CorruptFile:
        return "refused"
    assert repaired or data in honest, "damage went unnoticed"
    return "decoded"


def timed(data: bytes, repaired: bool, honest: frozenset[bytes]) -> str:
    """The same; an AssertionError where it takes too long."""
    start = time.thread_time()
    outcome = read(data, repaired, honest)
    taken = time.thread_time() - start
    assert taken <= SECONDS, f"took {taken:.2f} s"
    return outcome


def resident() -> float:
    """Return the process's resident memory, in MiB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / (1 << 20)


def limit_memory(size: int) -> None:
    """Let the process allocate no more from now on than a file of ``size`` bytes may cost: more is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + (LITTLE_MEMORY if size < SMALL else MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
