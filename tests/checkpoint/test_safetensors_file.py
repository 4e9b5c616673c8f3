"""Reading safetensors without torch: every dtype bit for bit, against torch's own reader."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from noworse.checkpoint import open_checkpoint
from noworse.checkpoint.base import FROM_SAFETENSORS, TO_SAFETENSORS
from noworse.errors import BadInput
from noworse.representation import DTYPES

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file


def random_tensor(dtype, shape, seed=0):
    bits = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 256, int(np.prod(shape)) * width(dtype))
    flat = torch.from_numpy(bits.astype(np.uint8))
    return flat.view(getattr(torch, dtype)).reshape(shape) if flat.numel() else torch.empty(shape).to(flat.dtype)


def width(dtype):
    return DTYPES[dtype].itemsize


def test_every_dtype_and_shape_comes_bit_for_bit(tmp_path):
    dtypes = [name for name in TO_SAFETENSORS if hasattr(torch, name)]
    shapes = [(), (1,), (3, 5), (2, 1, 3, 2)]
    tensors = {f"{d}{s}": random_tensor(d, s, i) for d in dtypes for i, s in enumerate(shapes)}
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    found = open_checkpoint(tmp_path / "a.safetensors")
    assert set(found.headers) == set(tensors)
    assert len(dtypes) >= 18
    for name, tensor in tensors.items():
        stored = found.read(name)
        assert found.headers[name].dtype == str(tensor.dtype).removeprefix("torch.")
        assert stored.shape == tuple(tensor.shape)
        assert stored.flags.writeable
        assert stored.tobytes() == tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert found.headers[name].nbytes == stored.nbytes == tensor.numel() * tensor.element_size()


def test_empty_tensors(tmp_path):
    save_file({"a": torch.empty(0, 3), "b": torch.ones(2)}, tmp_path / "a.safetensors")
    found = open_checkpoint(tmp_path / "a.safetensors")
    assert found.read("a").shape == (0, 3)
    np.testing.assert_array_equal(found.read("b"), np.ones(2, np.float32))


def test_names_are_those_of_safetensors():
    """Names as the library itself writes them; a dtype it does not know yet is skipped."""
    assert len(FROM_SAFETENSORS) == len(TO_SAFETENSORS)
    save = pytest.importorskip("safetensors.torch").save
    for ours, theirs in TO_SAFETENSORS.items():
        if hasattr(torch, ours):
            data = save({"t": torch.zeros(4, dtype=torch.uint8).repeat(width(ours)).view(getattr(torch, ours))})
            length = int.from_bytes(data[:8], "little")
            assert json.loads(data[8 : 8 + length])["t"]["dtype"] == theirs


def raw_file(path, header, data=b""):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"{", b""),
        (b"[]", b""),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678"),
        ({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, b"12345678"),
        ({"a": {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 8]}}, b"12345678"),
        ({k: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for k in "ab"}, b"1234"),
        ({"a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}, b"12345678"),
    ],
    ids=["json", "list", "cut", "shape", "dtype", "huge", "overlap", "hole"],
)
def test_damaged_files_are_refused(tmp_path, header, data):
    with pytest.raises(BadInput, match=r"a\.safetensors is no safetensors file"):
        open_checkpoint(raw_file(tmp_path / "a.safetensors", header, data))


def test_an_absurd_header_length_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    with pytest.raises(BadInput):
        open_checkpoint(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"")
    with pytest.raises(BadInput):
        open_checkpoint(tmp_path / "b.safetensors")


def test_types_of_less_than_a_byte_are_named(tmp_path):
    path = raw_file(tmp_path / "a.safetensors", {"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"\0")
    with pytest.raises(BadInput, match=r"'w' has dtype F4, expected one of|is no safetensors file"):
        open_checkpoint(path)


def test_a_file_cut_after_opening(tmp_path):
    save_file({"a": torch.ones(100)}, tmp_path / "a.safetensors")
    found = open_checkpoint(tmp_path / "a.safetensors")
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(BadInput, match="expected 400: it is truncated"):
        found.read("a")


def test_no_torch_is_imported(tmp_path):
    save_file({"a": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    code = (
        "import sys; from noworse.checkpoint import open_checkpoint\n"
        f"print(open_checkpoint({str(tmp_path / 'a.safetensors')!r}).read('a').tolist(), 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[16256, 16256, 16256] False"


@pytest.mark.parametrize(
    ("shape", "why"), [([0, 1 << 63], r"more than 2\*\*56 elements"), ([0] * 70, "a shape of 70 dimensions")]
)
def test_shapes_that_the_library_accepts_and_numpy_does_not(tmp_path, shape, why):
    head = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    with pytest.raises(BadInput, match=rf"a\.safetensors: tensor 'w': .*{why}"):
        open_checkpoint(tmp_path / "a.safetensors")


def test_metadata_may_be_null(tmp_path):
    head = json.dumps({"__metadata__": None}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    assert open_checkpoint(tmp_path / "a.safetensors").metadata == {}
