"""A short run of the fuzzer, and proof that it finds what it looks for (``make fuzz`` runs it at length)."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from fuzz.check import case
from fuzz.invent import invent
from fuzz.seeds import seeds
from noworse.errors import NoWorseError
from noworse.format import File
from noworse.format.index import SHARED
from noworse.representation import KINDS

PLANT = """
import sys
import numpy
import fuzz.__main__ as fuzz
import fuzz.check as check
from noworse.format import File, parse

def limited(size, limit=fuzz.limit_memory):
    limit(size)
    {fault}

fuzz.limit_memory = limited
sys.exit(fuzz.many(3, 400))
"""
FAULTS = {
    "IndexError: list index": "parse._check_multiplications = lambda *a: [][1]",
    "MemoryError": "parse._check_multiplications = lambda *a: numpy.empty(1 << 40)",
    "damage went unnoticed": "File.check = File.array = File.tensor_bytes = lambda *a: None",
    "took ": "check.SECONDS = 1e-5",
}


def test_five_thousand_damaged_files():
    run = [sys.executable, "-m", "fuzz", "--cases", "5000", "--seed", "1"]
    found = subprocess.run(run, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stdout
    assert "0 failures in 5,000 cases" in found.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault):
    found = subprocess.run(
        [sys.executable, "-c", PLANT.format(fault=FAULTS[fault])], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 1, found.stderr
    assert "FAILED: python -m fuzz --seed 3 --case " in found.stdout
    assert fault in found.stdout


def test_a_case_can_be_repeated_alone(tmp_path):
    run = [sys.executable, "-m", "fuzz", "--seed", "4", "--case", "17", "--save", str(tmp_path / "a.nwt")]
    found = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True)
    data, repaired = case(seeds(), 4, 17)
    assert (tmp_path / "a.nwt").read_bytes() == data
    assert f"checksums {'repaired' if repaired else 'not repaired'}" in found.stdout
    assert found.stdout.splitlines()[-1] in ("decoded", "refused")


def test_every_kind_of_tensor_is_among_what_is_damaged():
    assert {entry.signature.kind for seed in seeds() for entry in seed.file.index.entries} == set(KINDS.values())


def test_half_of_all_cases_repair_their_checksums():
    files = seeds()
    repaired = [case(files, 0, number)[1] for number in range(1000)]
    assert 420 < sum(repaired) < 580


def test_forged_files_are_read_alike_by_all_readers():
    run = [sys.executable, "-m", "fuzz", "--forged", "--cases", "300", "--seed", "1"]
    found = subprocess.run(run, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stdout
    assert "0 failures in 300 cases" in found.stdout


def test_the_forger_makes_the_same_file_again_and_knows_every_kind():
    files = [invent(random.Random(f"2:{number}")) for number in range(200)]
    assert [invent(random.Random(f"2:{number}")) for number in range(20)] == files[:20]
    kinds, shared, contexts, read = set(), 0, 0, 0
    for data in files:
        try:
            with File(data, 16 << 20) as file:
                file.check()
        except NoWorseError:
            continue
        read += 1
        entries = file.index.entries
        kinds |= {entry.signature.kind for entry in entries}
        shared += any(entry.stream >= SHARED for entry in entries)
        contexts += any(stream.in_context for stream in file.index.streams)
    assert kinds == set(KINDS.values())
    assert 40 < read < 160
    assert min(shared, contexts) > 5


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("readers.READERS['open'] = lambda path: {'a': ('bool', (), b'')}", "KeyError"),
        ("readers.READERS['numpy'] = lambda path: 1 / 0", "ZeroDivisionError"),
        ("readers.SECONDS = 0.0", "AssertionError: load took"),
        ("readers.READERS['verify'] = lambda path: bytearray(1 << 30)", "MemoryError"),
    ],
)
def test_a_reader_that_fails_is_found(fault, name):
    code = f"import sys; from fuzz import __main__, readers; sys.argv += ['--forged', '--cases', '40']; {fault}"
    plant = f"{code}\nreaders.warm_up = lambda folder: None\nsys.exit(__main__.main())"
    found = subprocess.run([sys.executable, "-c", plant], capture_output=True, text=True, timeout=600)
    assert found.returncode == 1, found.stderr
    assert name in found.stdout
