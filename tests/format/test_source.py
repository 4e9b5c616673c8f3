from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from noworse.errors import BadInput, CorruptFile
from noworse.format import File, pack
from noworse.format.source import Source
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
