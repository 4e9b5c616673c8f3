"""Files of torch.save: dicts of tensors are read, whatever would run code or is no tensor is refused."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest

from noworse.checkpoint import open_checkpoint
from noworse.errors import BadInput

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", ["state_dict", "model", "module", "model_state_dict", ""])
def test_state_dicts_are_read(tmp_path, ending, zipped, wrapped):
    state = {**nn.Linear(3, 2).state_dict(), "half": torch.arange(5).bfloat16(), "view": torch.arange(12.0)[2:8:2]}
    path = tmp_path / f"a.{ending}"
    found = {wrapped: state, "epoch": 3} if wrapped else state
    torch.save(found, path, _use_new_zipfile_serialization=zipped)
    source = open_checkpoint(path)
    assert list(source.headers) == list(state)
    np.testing.assert_array_equal(source.read("weight"), state["weight"].numpy())
    np.testing.assert_array_equal(source.read("half"), state["half"].view(torch.int16).numpy().view(np.uint16))
    assert source.read("view").tolist() == [2, 4, 6]


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, plain):
    path, trace = tmp_path / "a.pt", tmp_path / "run"
    if plain:
        path.write_bytes(pickle.dumps({"w": Bomb(str(trace))}))
    else:
        torch.save({"w": Bomb(str(trace))}, path)
    with pytest.raises(BadInput, match=r"a\.pt: torch\.load\(weights_only=True\) refuses it"):
        open_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(3), "holds a Tensor, expected a dict"),
        ([1, 2], "holds a list, expected a dict"),
        ({"w": torch.ones(2), "epoch": 3}, "entry 'epoch' is a int"),
        ({3: torch.ones(2)}, "entry 3 is a Tensor, expected tensors by name"),
        ({"w": torch.eye(3).to_sparse()}, "'w' is float32, torch.sparse_coo"),
        ({"net": {"w": torch.ones(2)}}, "entry 'net' is a dict"),
    ],
)
def test_other_contents_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(BadInput, match=message):
        open_checkpoint(tmp_path / "a.pt")


def test_a_whole_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(BadInput, match="weights_only=True"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"no pickle at all", b"\x80\x02."])
def test_garbage_is_refused(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.bin"):
        open_checkpoint(tmp_path / "a.bin")


def test_every_prefix_of_a_file_is_refused(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    for end in range(0, len(data) - 1, 37):
        (tmp_path / "a.pt").write_bytes(data[:end])
        with pytest.raises(BadInput):
            open_checkpoint(tmp_path / "a.pt")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_checkpoint(tmp_path / "a.pt")


def test_expanded_tensors_are_limited_before_they_are_copied(tmp_path):
    """2**36 elements in 1.5 KB; and a hundred names of one that is within the limit alone."""
    for count, size in ((1, 2**36), (100, 2**24)):
        torch.save({f"w{i}": torch.ones(1).expand(size) for i in range(count)}, tmp_path / "a.pt")
        with pytest.raises(BadInput, match=r"a\.pt: tensors of \d+ bytes in a file of \d+, expected at most 2"):
            open_checkpoint(tmp_path / "a.pt")
    torch.save({"w": torch.arange(3.0).expand(2, 3)}, tmp_path / "a.pt")
    assert open_checkpoint(tmp_path / "a.pt").read("w").tolist() == [[0, 1, 2], [0, 1, 2]]


def test_packed_archives_are_refused(tmp_path):
    """What torch would unpack to a thousand times the size of the file."""
    torch.save({"w": torch.zeros(1 << 18)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "a.pt", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(BadInput, match=r"a\.pt: 1\d+ bytes packed into \d+, expected entries that are stored"):
        open_checkpoint(tmp_path / "a.pt")


def test_a_file_cut_short_after_it_was_opened_does_not_end_the_process(tmp_path):
    state = {"w": torch.arange(1 << 16)}
    torch.save(state, tmp_path / "a.pt")
    found = open_checkpoint(tmp_path / "a.pt")
    os.truncate(tmp_path / "a.pt", 100)
    np.testing.assert_array_equal(found.read("w"), state["w"].numpy())


def test_names_that_are_nested_deeply(tmp_path):
    name = ()
    for _ in range(800):
        name = (name,)
    torch.save({name: torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(BadInput, match="entry of a tuple is a Tensor"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("shape", [(1,) * 9, (0, 1 << 60)])
def test_shapes_beyond_any_file(tmp_path, shape):
    torch.save({"w": torch.ones(shape)}, tmp_path / "a.pt")
    with pytest.raises(BadInput, match=r"a\.pt: tensor 'w': a? ?shape"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.safetensors.index.json"])
def test_a_fifo_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadInput, match="is a FIFO or a device, expected a file"):
        open_checkpoint(tmp_path / name)
