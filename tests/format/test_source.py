from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from attacks.forge import small_model
from noworse.errors import BadInput, CorruptFile
from noworse.format import File, pack, write
from noworse.format.source import Source, atomic_file, destination
from noworse.representation import Raw

DATA = bytes(range(256)) * 8


@pytest.fixture(params=["bytes", "file"])
def source(request, tmp_path):
    (tmp_path / "a").write_bytes(DATA)
    return Source(DATA if request.param == "bytes" else tmp_path / "a")


def test_any_part_is_read(source):
    assert source.size == len(DATA)
    for start, count in [(0, 0), (0, 7), (300, 500), (0, len(DATA)), (len(DATA), 0)]:
        assert source.read(start, count) == DATA[start : start + count]


def test_the_end_is_noticed(source):
    with pytest.raises(CorruptFile, match="48 bytes at offset 2000, expected 100: the file is truncated"):
        source.read(2000, 100)


def test_nothing_is_read_after_it_is_closed(source):
    source.close()
    source.close()
    with pytest.raises(BadInput, match="the file is closed"):
        source.read(0, 1)


def test_a_system_that_gives_a_little_at_a_time_is_asked_again(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(DATA)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, start: pread(fd, min(count, 100), start))
    assert Source(tmp_path / "a").read(5, 1000) == DATA[5:1005]


def test_threads_may_read_at_once(source):
    starts = np.random.default_rng(0).integers(0, len(DATA) - 50, 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda start: source.read(start, 50), starts))
    assert found == [DATA[start : start + 50] for start in starts]


@pytest.mark.parametrize("action", ["storage", "check", "tensor_bytes"])
def test_a_closed_file_gives_no_tensors(tmp_path, action):
    (tmp_path / "a.nwt").write_bytes(pack({"a": Raw(bytes(3000), (3000,), "uint8")}, {}, None))
    with File(tmp_path / "a.nwt") as file:
        pass
    with pytest.raises(BadInput, match="the file is closed, expected it to be open"):
        getattr(file, action)(*([] if action == "check" else ["a"]))


def test_a_file_closed_while_it_is_read_is_not_called_damaged(tmp_path):
    (tmp_path / "a.nwt").write_bytes(pack({name: Raw(bytes(3000), (3000,), "uint8") for name in "ab"}, {}, None))
    file = File(tmp_path / "a.nwt")
    tensors = file.stored()
    next(tensors)
    file.close()
    with pytest.raises(BadInput, match="the file is closed"):
        next(tensors)


def test_processes_that_share_an_open_file_read_right(tmp_path):
    """With a common position, one would move it between another's seek and read."""
    items = {str(i): Raw(np.full(40_000, i, np.uint8).tobytes(), (40_000,), "uint8") for i in range(50)}
    items["0"] = Raw(np.random.default_rng(0).bytes(40_000), (40_000,), "uint8")
    (tmp_path / "a.nwt").write_bytes(pack(items, {}, None))
    with File(tmp_path / "a.nwt") as file:
        children = []
        for _ in range(4):
            if not (pid := os.fork()):
                status = 1
                try:
                    names = list(items) * 20
                    status = 0 if all(file.storage(name).tobytes() == items[name].data for name in names) else 1
                finally:
                    os._exit(status)  # nothing of pytest's is to run twice
            children.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4


def test_what_has_no_offsets_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(BadInput, match="is a FIFO or a device, expected a file"):
            File(path)


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


def written(path):
    write(path, small_model(), {"new": 1})
    return path.read_bytes() == pack(small_model(), {"new": 1}, None)


def test_a_link_is_followed(tmp_path):
    real, link, chain, nowhere = (tmp_path / name for name in ("real.nwt", "link.nwt", "chain.nwt", "nowhere.nwt"))
    real.write_bytes(b"old")
    link.symlink_to("real.nwt")
    chain.symlink_to(link)
    nowhere.symlink_to("fresh.nwt")
    assert written(chain)
    assert chain.is_symlink()
    assert link.is_symlink()
    assert real.read_bytes() == chain.read_bytes()
    assert written(nowhere)
    assert nowhere.is_symlink()
    assert (tmp_path / "fresh.nwt").is_file()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match="Too many levels of symbolic links"):
        write(tmp_path / "loop", small_model(), {})


def test_mode_and_owner_are_kept(tmp_path):
    path, new = tmp_path / "a.nwt", tmp_path / "b.nwt"
    path.write_bytes(b"old")
    path.chmod(0o640)
    owner = (1234, 4321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    assert written(path)
    assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert path.stat().st_mode & 0o7777 == 0o640
    before = os.umask(0o027)
    try:
        assert written(new)
    finally:
        os.umask(before)
    assert new.stat().st_mode & 0o7777 == 0o640


def test_an_owner_whom_nothing_can_be_given_to(tmp_path, monkeypatch):
    path = tmp_path / "a.nwt"
    path.write_bytes(b"old")
    theirs = os.stat_result((0o100644, 0, 0, 1, 77, 88, 0, 0, 0, 0))

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr("noworse.format.source._status", lambda _: theirs)
    with pytest.raises(BadInput, match="a new file cannot be given to user 77 and group 88"):
        write(path, small_model(), {})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["名" * 80, "x" * 255, "é" * 127, os.fsdecode(b"\xff" * 200)])
def test_a_name_may_have_as_many_bytes_as_the_system_allows(tmp_path, name):
    assert written(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x" * 256, "File name too long"),
        ("a\0b", "not the name of a file"),
        ("a\ud800", "not the name of a file"),
        ("missing/x", "expected a file name in an existing, writable folder"),
        ("folder", "it is a folder"),
        ("fifo", "it is a FIFO"),
        ("socket", "it is a socket"),
        ("device", "it is a device"),
        ("plain/x", "Not a directory"),
    ],
)
def test_what_no_file_can_take_the_place_of(tmp_path, monkeypatch, name, why):
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").touch()
    (tmp_path / "device").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # sockets have short names
        listener.bind("socket")
    before = set(tmp_path.iterdir())
    with pytest.raises(BadInput, match=why):
        write(tmp_path / name, small_model(), {})
    assert set(tmp_path.iterdir()) == before


def test_a_write_protected_file_stays(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    may = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: may(path, mode) and path != tmp_path / "a")
    with pytest.raises(BadInput, match="what is there is write-protected"):
        destination(tmp_path / "a")


def test_a_file_is_not_made_from_itself(tmp_path):
    path, link, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    path.write_bytes(b"old")
    link.symlink_to("a")
    os.link(path, other)
    for place in (path, link, other):
        with pytest.raises(BadInput, match="which is read; expected another file"):
            destination(place, tmp_path / "missing", path)
    assert destination(tmp_path / "d", path) == tmp_path / "d"


def test_home_is_what_shells_take_it_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with atomic_file("~/a.bin") as out:
        out.write(b"abc")
    assert (tmp_path / "a.bin").read_bytes() == b"abc"
    assert Source("~/a.bin").read(0, 3) == b"abc"
    with pytest.raises(BadInput, match=r"is ~/a\.bin, which is read"):
        destination("~/a.bin", "~/a.bin")
    with pytest.raises(BadInput, match="cannot write ~nobody-of-this-name/a"):
        destination("~nobody-of-this-name/a")
