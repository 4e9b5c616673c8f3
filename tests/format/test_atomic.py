"""Whatever interrupts a write, the file that was there before is there afterwards."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys

import pytest

from attacks.forge import small_model
from noworse.errors import BadInput
from noworse.format import File, pack, write

KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from attacks.forge import small_model
from noworse.format import pack, write

path, rng = Path(sys.argv[1]), random.Random(0)
versions = [pack(small_model(), {"version": i, "ballast": "x" * 100_000 * i}, None) for i in range(3)]
path.write_bytes(versions[0])
found = set()
for first in range(40):
    child = os.fork()
    if child == 0:
        while True:
            for i in (first % 3, (first + 1) % 3, (first + 2) % 3):
                write(path, small_model(), {"version": i, "ballast": "x" * 100_000 * i})
    time.sleep(rng.uniform(0.0, 0.12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found.add(versions.index(path.read_bytes()))
assert len(found) == 3, "no child lived long enough to write anything"
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "model.nwt"
    subprocess.run([sys.executable, "-c", KILLS, str(path)], check=True, timeout=120)
    with File(path) as file:
        file.check()
    others = [other.name for other in tmp_path.iterdir() if other != path]
    assert all(re.fullmatch(r"\.model\.nwt\.[0-9a-f]{16}\.tmp", name) for name in others)


FULL = """
import resource, sys
from attacks.forge import small_model
from noworse.errors import BadInput
from noworse.format import write

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write(sys.argv[1], small_model(), {"new": 1})
except BadInput as error:
    print(error)
"""


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_a_write_that_meets_a_limit_leaves_the_old_file(tmp_path, share):
    """The system refuses to let a file grow beyond a limit, as it does when a quota is used up."""
    path, size = tmp_path / "model.nwt", len(pack(small_model(), {"new": 1}, None))
    before = pack(small_model(), {}, None)
    path.write_bytes(before)
    run = [sys.executable, "-c", FULL, str(path), str(int(share * size) - (share == 1))]
    found = subprocess.run(run, check=True, timeout=120, capture_output=True, text=True)
    assert found.stdout.startswith(f"cannot write {path}: File too large")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_file(small_disk):
    path = small_disk / "model.nwt"
    write(path, small_model(), {})
    before = path.read_bytes()
    with pytest.raises(BadInput, match="No space left on device"):
        write(path, small_model(), {"ballast": os.urandom(100_000).hex()})
    assert path.read_bytes() == before
    assert list(small_disk.iterdir()) == [path]


def test_no_more_files_may_be_opened(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(BadInput, match="Too many open files"):
            write(tmp_path / "a.nwt", small_model(), {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
