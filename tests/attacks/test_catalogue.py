from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from attacks.__main__ import readme
from attacks.catalogue import ATTACKS
from noworse.errors import CorruptFile
from noworse.format import File

LARGEST = 250_000  # bytes of a bad file
MEMORY = 64 << 20  # bytes that refusing one may take


def read(data):
    with File(data) as file:
        file.check()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_is_refused_for_its_cause_in_little_time_and_memory(attack):
    data = attack.data()
    assert len(data) <= LARGEST
    start = time.thread_time()
    with pytest.raises(CorruptFile) as caught:
        read(data)
    assert time.thread_time() - start < 1
    assert attack.answer in str(caught.value)
    tracemalloc.start()
    with pytest.raises(CorruptFile):
        read(data)
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()


def test_every_attack_has_a_name_and_a_reason():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert all(attack.what.endswith((".", "?")) for attack in ATTACKS)


def test_the_readme_lists_them_all():
    assert (Path(__file__).parents[2] / "attacks" / "README.md").read_text(encoding="utf-8") == readme()


def test_they_can_be_written_to_a_folder(tmp_path):
    subprocess.run([sys.executable, "-m", "attacks", str(tmp_path / "bad")], check=True, timeout=120)
    written = {path.stem for path in (tmp_path / "bad").glob("*.nwt")}
    assert written == {attack.name for attack in ATTACKS}
    with pytest.raises(CorruptFile):
        File(tmp_path / "bad" / "truncated.nwt")
