from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from noworse.errors import BadInput, CorruptFile
from noworse.format import File, write
from noworse.io import load, load_file, represent, safe_open, save, save_file
from noworse.model.load import load_model
from noworse.representation import DTYPES, Constant, Raw, Tied

torch = pytest.importorskip("torch")
nn = torch.nn

TORCH_DTYPES = [name for name in DTYPES if hasattr(torch, name)]


def random_tensor(dtype, shape, seed=0):
    """Any bit pattern, NaN payloads and infinities included."""
    rng = np.random.default_rng(seed)
    width = DTYPES[dtype].itemsize
    bits = rng.integers(0, 2 if dtype == "bool" else 256, int(np.prod(shape)) * width, dtype=np.uint8)
    if not bits.size:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.from_numpy(bits).view(getattr(torch, dtype)).reshape(shape)


def same_bits(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    if a.numel():
        assert torch.equal(a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8))


class Tiny(nn.Module):
    """Two tied weights, a norm, a buffer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 6)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 12)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.randn(3))


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (5, 7), (2, 1, 3, 1, 2), (1100,)])
def test_torch_tensors_come_back_bit_for_bit(tmp_path, dtype, shape):
    tensor = random_tensor(dtype, shape)
    save_file({"t": tensor}, tmp_path / "a.nwt")
    same_bits(load_file(tmp_path / "a.nwt")["t"], tensor)
    with safe_open(tmp_path / "a.nwt") as file:
        same_bits(file.get_tensor("t"), tensor)


@settings(max_examples=50)
@given(
    npst.arrays(
        st.sampled_from([">f4", "<f8", "f2", "i1", ">i8", "u4", "?", "c8", "c16"]),
        npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
    )
)
def test_numpy_arrays_come_back_bit_for_bit(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("io") / "a.nwt"
    save_file({"a": array, "transposed": array.T}, path)
    found = load_file(path, framework="np")
    for name, expected in (("a", array), ("transposed", array.T)):
        assert found[name].dtype == array.dtype.newbyteorder("<")
        assert found[name].tobytes() == expected.astype(found[name].dtype).tobytes()
        assert found[name].shape == expected.shape


def test_strided_and_trained_tensors_are_stored_by_value(tmp_path):
    weight = nn.Parameter(torch.randn(4, 6))
    tensors = {
        "w": weight,
        "t": weight.T,
        "part": weight[1:3, ::2],
        "conj": torch.randn(3, dtype=torch.complex64).conj(),
    }
    save_file(tensors, tmp_path / "a.nwt")
    for name, tensor in load_file(tmp_path / "a.nwt").items():
        same_bits(tensor, tensors[name].detach().resolve_conj())


def test_the_other_framework_reads_the_same_values(tmp_path):
    tensors = {"b": torch.randn(40).bfloat16(), "f": torch.randn(40), "h": torch.randn(40).half()}
    save_file(tensors, tmp_path / "a.nwt")
    found = load_file(tmp_path / "a.nwt", framework="np")
    assert [found[name].dtype for name in "bfh"] == [np.float32, np.float32, np.float16]
    for name, array in found.items():
        np.testing.assert_array_equal(array, tensors[name].float().numpy())


def test_ties_are_stored_once_and_restored(tmp_path):
    model = Tiny()
    save_file(model.state_dict(), tmp_path / "a.nwt")
    with File(tmp_path / "a.nwt") as file:
        assert file.representation("head.weight") == Tied("embedding.weight", (12, 6), "float32")
        assert isinstance(file.representation("norm.weight"), Constant)
        assert isinstance(file.representation("scale"), Raw)
    found = load_file(tmp_path / "a.nwt")
    assert list(found) == list(model.state_dict())
    assert found["head.weight"] is found["embedding.weight"]
    arrays = load_file(tmp_path / "a.nwt", framework="np")
    assert arrays["head.weight"] is arrays["embedding.weight"]
    with safe_open(tmp_path / "a.nwt") as file:
        same_bits(file.get_tensor("head.weight"), model.head.weight.detach())


def test_views_of_one_storage_are_not_ties(tmp_path):
    base = torch.randn(4, 4)
    save_file({"a": base, "b": base.T, "c": base[:2], "d": base.view(16), "e": base}, tmp_path / "a.nwt")
    with File(tmp_path / "a.nwt") as file:
        assert [type(file.representation(name)) for name in "abcde"] == [Raw, Raw, Raw, Raw, Tied]


def test_a_mapping_that_makes_tensors_on_demand_has_no_false_ties(tmp_path):
    class Lazy(Mapping):
        def __len__(self):
            return 20

        def __iter__(self):
            return map(str, range(20))

        def __getitem__(self, name):
            return torch.arange(1000) + int(name)

    save_file(Lazy(), tmp_path / "a.nwt")
    for name, tensor in load_file(tmp_path / "a.nwt").items():
        assert float(tensor[0]) == float(name)


def test_safe_open_has_the_interface_of_safetensors(tmp_path):
    write(tmp_path / "a.nwt", {"x": represent("x", torch.arange(3))}, {"seed": 3}, {"verdict": "worse"})
    with safe_open(tmp_path / "a.nwt", framework="pt") as file:
        assert file.keys() == ["x"]
        assert (file.metadata(), file.settings, file.verdict) == (None, {"seed": 3}, {"verdict": "worse"})
        with pytest.raises(BadInput, match="no tensor is called 'y'"):
            file.get_tensor("y")
    with safe_open(tmp_path / "a.nwt", framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("x"), [0, 1, 2])


def test_damage_and_limits_are_reported(tmp_path):
    path = tmp_path / "a.nwt"
    save_file({"x": torch.randn(100)}, path)
    with pytest.raises(CorruptFile, match="max_bytes=399"):
        load_file(path, max_bytes=399)
    path.write_bytes(path.read_bytes()[:-1])
    for read in (load_file, safe_open, lambda p: load_model(nn.Linear(1, 1), p)):
        with pytest.raises(CorruptFile):
            read(path)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (lambda: np.array(["a"]), "tensor 't' has dtype str32, expected one of bool"),
        (lambda: np.array([None]), "has dtype object"),
        (lambda: [1, 2], "tensor 't' is a list, expected a tensor of torch or an array of numpy"),
        (lambda: torch.zeros(2, 2).to_sparse(), "tensor 't' is float32, torch.sparse_coo, on cpu; expected a dense"),
        (lambda: torch.zeros(2, device="meta"), "on meta"),
        (lambda: torch.zeros(2, dtype=torch.complex32), "tensor 't' is complex32"),
        (lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8), "tensor 't' is qint8"),
        (lambda: torch.zeros((1,) * 9), "a shape of 9 dimensions, expected at most 8"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch says that complex32 and qint8 are rare
def test_what_cannot_be_stored_is_named(tmp_path, tensor, message):
    with pytest.raises(BadInput, match=message):
        save_file({"t": tensor()}, tmp_path / "a.nwt")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_framework_is_refused(tmp_path):
    with pytest.raises(BadInput, match='framework \'jax\', expected "pt" or "np"'):
        load_file(tmp_path / "a.nwt", framework="jax")


def test_reading_needs_numpy_alone(tmp_path):
    save_file({"x": torch.randn(4).bfloat16()}, tmp_path / "a.nwt")
    program = f"""
import sys
sys.modules["torch"] = None  # importing it fails
from noworse.errors import BadInput
from noworse.io import load_file, safe_open, save_file
import numpy as np
path = {str(tmp_path / "a.nwt")!r}
assert load_file(path, framework="np")["x"].dtype == np.float32
save_file({{"y": np.arange(3)}}, path)
for load in (load_file, safe_open):
    try:
        load(path)
    except BadInput as error:
        assert "pip install noworse[torch]" in str(error)
    else:
        raise SystemExit("torch was not missed")
loaded = {{name.partition(".")[0] for name, module in sys.modules.items() if module is not None}}
assert not loaded & {{"torch", "scipy", "safetensors"}}, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True)


TENSORS = {
    "m": torch.randn(7, 5),
    "half": torch.randn(300, 4).bfloat16(),
    "scalar": torch.tensor(3.0),
    "ints": torch.arange(24).reshape(2, 3, 4),
}
META = {"format": "pt", "note": "n\u00e4me " * 50}


@pytest.fixture
def pair(tmp_path):
    """The same tensors in a safetensors file and in one of ours."""
    theirs = pytest.importorskip("safetensors.torch")
    theirs.save_file(TENSORS, tmp_path / "a.safetensors", META)
    save_file(TENSORS, tmp_path / "a.nwt", META)
    return tmp_path / "a.safetensors", tmp_path / "a.nwt"


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_an_open_file_answers_as_one_of_safetensors_does(pair, framework):
    theirs = pytest.importorskip("safetensors").safe_open
    with theirs(pair[0], framework) as a, safe_open(pair[1], framework) as b:
        assert sorted(a.keys()) == sorted(b.keys()) == sorted(b.offset_keys())
        assert a.metadata() == b.metadata() == META
        for name in ("m", "ints", "scalar") if framework == "np" else TENSORS:  # their numpy knows no bfloat16
            x, y = a.get_slice(name), b.get_slice(name)
            assert (x.get_shape(), x.get_dtype()) == (y.get_shape(), y.get_dtype())
            same_bits(torch.as_tensor(a.get_tensor(name)), torch.as_tensor(b.get_tensor(name)))
        for part in (np.s_[1:6:2, -1], np.s_[3], np.s_[:, ::2], np.s_[...]):
            x, y = a.get_tensor("m")[part], b.get_slice("m")[part]  # their slices of old take no steps
            assert (x.dtype, tuple(x.shape), x.tolist()) == (y.dtype, tuple(y.shape), y.tolist())
        assert set(b.get_tensors()) == set(TENSORS)


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_parts_that_are_none_are_named(tmp_path, framework):
    save_file({"m": torch.zeros(2, 3)}, tmp_path / "a.nwt")
    with safe_open(tmp_path / "a.nwt", framework) as file:
        for index in (5, (0, 0, 0), (0, "x")):
            with pytest.raises(BadInput, match=r"is no part of a tensor of shape \(2, 3\)"):
                file.get_slice("m")[index]
        with pytest.raises(BadInput, match="no tensor is called 'y'"):
            file.get_slice("y")


def test_a_part_does_not_keep_the_whole(tmp_path):
    save_file({"m": torch.randn(2000, 3)}, tmp_path / "a.nwt")
    with safe_open(tmp_path / "a.nwt") as file:
        assert file.get_slice("m")[:2].untyped_storage().nbytes() == 24
    with safe_open(tmp_path / "a.nwt", "np") as file:
        assert file.get_slice("m")[:2].base is None


def test_keys_by_offset_are_in_the_order_of_the_data(tmp_path):
    items = {"small": torch.randn(9), "large": torch.randn(5000), "other": torch.randn(9000)}
    items["tied"] = items["other"]
    save_file(items, tmp_path / "a.nwt")
    with safe_open(tmp_path / "a.nwt") as file:
        assert file.keys() == ["small", "large", "other", "tied"]
        assert file.offset_keys() == ["large", "other", "tied", "small"]  # small ones share streams behind the others


def test_bytes_in_memory_are_the_file_on_disk(tmp_path):
    save_file(TENSORS, tmp_path / "a.nwt", META)
    data = save(TENSORS, META)
    assert data == (tmp_path / "a.nwt").read_bytes()
    for name, tensor in load(data).items():
        same_bits(tensor, TENSORS[name])
    assert load(data, framework="np")["scalar"] == 3
    with pytest.raises(CorruptFile, match="max_bytes=9"):
        load(data, max_bytes=9)


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, {"a": None}])
def test_metadata_are_texts(tmp_path, metadata):
    with pytest.raises(BadInput, match="expected texts by name"):
        save_file({}, tmp_path / "a.nwt", metadata)


def test_metadata_that_are_no_texts_are_not_shown(tmp_path):
    for made, shown in [({"metadata": {"a": 1, "b": "c"}}, {"b": "c"}), ({"metadata": [1]}, None), ({}, None)]:
        write(tmp_path / "a.nwt", {}, made)
        with safe_open(tmp_path / "a.nwt") as file:
            assert file.metadata() == shown


def test_tensors_go_to_a_device(tmp_path):
    save_file(TENSORS, tmp_path / "a.nwt")
    for device in ("cpu", torch.device("cpu")):
        assert all(tensor.device.type == "cpu" for tensor in load_file(tmp_path / "a.nwt", device).values())
    assert all(tensor.device.type == "meta" for tensor in load_file(tmp_path / "a.nwt", device="meta").values())
    with safe_open(tmp_path / "a.nwt", "pt", "meta") as file:
        assert file.get_tensor("m").device.type == "meta"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
        ({"device": None}, "device None cannot be used"),
        ({"device": "cuda:0", "framework": "np"}, "device 'cuda:0' for arrays of numpy, expected 'cpu'"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
    ],
)
def test_unusable_devices_are_refused(tmp_path, arguments, message):
    save_file(TENSORS, tmp_path / "a.nwt")
    with pytest.raises(BadInput, match=message):
        load_file(tmp_path / "a.nwt", **arguments)


def test_tensors_are_not_to_be_had_from_a_closed_file(tmp_path):
    save_file(TENSORS, tmp_path / "a.nwt")
    with safe_open(tmp_path / "a.nwt") as file:
        part = file.get_slice("m")
    for ask in (lambda: file.get_tensor("m"), lambda: file.get_slice("m"), lambda: part[0], file.offset_keys):
        with pytest.raises(BadInput, match="the file is closed, expected it to be open"):
            ask()


def test_what_is_no_mapping_of_tensors_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"tensors are a Linear: expected a mapping, such as model.state_dict\(\)"):
        save_file(torch.nn.Linear(2, 2), tmp_path / "a.nwt")
    assert not list(tmp_path.iterdir())
