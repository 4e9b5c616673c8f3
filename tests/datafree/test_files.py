"""Model files in, .nwt files out: bit for bit, to a size, within an error; and in how much memory."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import noworse as nw
from noworse.cli import main
from noworse.format import File
from noworse.representation import DTYPES, Grid

save_file = pytest.importorskip("safetensors.numpy").save_file
load_safetensors = pytest.importorskip("safetensors.numpy").load_file


def model(seed=0):
    """Weights, biases, norms, statistics, counters, a tie by content."""
    rng = np.random.default_rng(seed)
    found = {
        "embedding": rng.normal(size=(500, 64)).astype(np.float32) * 0.02,
        "layer.weight": rng.laplace(size=(96, 64)).astype(np.float32) * 0.1,
        "layer.bias": rng.normal(size=96).astype(np.float32) * 0.1,
        "conv.weight": rng.normal(size=(32, 16, 3, 3)).astype(np.float32) * 0.2,
        "norm.weight": (1 + 0.1 * rng.normal(size=96)).astype(np.float32),
        "norm.running_var": np.geomspace(1e-3, 20, 96).astype(np.float32),
        "norm.steps": np.array(1234),
        "mask": np.tril(np.ones((20, 20), bool)),
        "half": rng.normal(size=(50, 50)).astype(np.float16),
    }
    return {**found, "head": found["embedding"].copy()}


@pytest.fixture
def source(tmp_path):
    save_file(model(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def same_bits(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def test_lossless_comes_back_bit_for_bit(source, tmp_path):
    report = nw.compress_file(source, tmp_path / "a.nwt", lossless=True)
    found = nw.load_file(tmp_path / "a.nwt", framework="np")
    assert set(found) == set(model())
    for name, tensor in model().items():
        same_bits(found[name], tensor)
    assert found["head"] is found["embedding"]
    assert report.size == (tmp_path / "a.nwt").stat().st_size
    assert report.original_size == sum(t.nbytes for n, t in model().items() if n != "head")
    assert report.lossless == report.tensors == len(model())
    assert "all 10 tensors are stored bit for bit" in str(report)
    assert json.loads(report.to_json())["ratio"] == report.ratio == report.original_size / report.size
    with File(tmp_path / "a.nwt") as file:
        assert file.settings == {"mode": "lossless"}
        assert file.verdict is None


arrays = npst.arrays(
    st.sampled_from(["bool", "uint8", "int16", "int32", "uint64", "float16", "float32", "float64", "complex64"]),
    npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9), arrays, max_size=5))
def test_any_file_survives_there_and_back(tmp_path, tensors):
    save_file(tensors, tmp_path / "in.safetensors")
    nw.compress_file(tmp_path / "in.safetensors", tmp_path / "a.nwt", lossless=True)
    from noworse.checkpoint import write_safetensors

    with File(tmp_path / "a.nwt") as file, (tmp_path / "out.safetensors").open("wb") as out:
        write_safetensors(file, out)
    found = load_safetensors(tmp_path / "out.safetensors")
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        same_bits(found[name], tensor)


@pytest.mark.parametrize("mode", [{"lossless": True}, {"target": "6 bits"}, {"max_error": "1%"}])
def test_metadata_survive_there_and_back(tmp_path, mode):
    safetensors = pytest.importorskip("safetensors")
    meta = {"format": "pt", "note": "a" * 300, "title": "näme"}
    save_file(model(), tmp_path / "in.safetensors", metadata=meta)
    nw.compress_file(tmp_path / "in.safetensors", tmp_path / "a.nwt", **mode)
    with nw.safe_open(tmp_path / "a.nwt", "np") as file:
        assert file.metadata() == meta
    assert main(["decompress", str(tmp_path / "a.nwt"), "-o", str(tmp_path / "out.safetensors")]) == 0
    with safetensors.safe_open(tmp_path / "out.safetensors", "np") as file:
        assert file.metadata() == meta  # although two tensors are tied in between


def test_few_values_are_stored_as_a_codebook(tmp_path):
    rng = np.random.default_rng(0)
    palette = {"w": np.sort(rng.normal(size=16).astype(np.float32))[rng.integers(0, 16, (80, 90))]}
    save_file(palette, tmp_path / "in.safetensors")
    report = nw.compress_file(tmp_path / "in.safetensors", tmp_path / "a.nwt", lossless=True)
    with File(tmp_path / "a.nwt") as file:
        assert file.representation("w").label == "codebook"
        same_bits(file.array("w"), palette["w"])
    assert report.size < 80 * 90 / 2 * 1.01 + 64 + 150  # 4 bits an element, 16 values, and what every file has


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.startswith("complex128")])
def test_every_dtype_of_torch_files(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    if not hasattr(torch, dtype):
        pytest.skip(f"this torch has no {dtype}")
    bits = np.random.default_rng(0).integers(0, 2, 64 * DTYPES[dtype].itemsize).astype(np.uint8)
    tensor = torch.from_numpy(bits).view(getattr(torch, dtype)).reshape(4, 16)
    torch.save({"t": tensor}, tmp_path / "a.pt")
    nw.compress_file(tmp_path / "a.pt", tmp_path / "a.nwt", lossless=True)
    found = nw.load_file(tmp_path / "a.nwt")["t"]
    assert found.dtype == tensor.dtype
    assert torch.equal(found.view(torch.uint8), tensor.view(torch.uint8))


@pytest.mark.parametrize("target", ["12KB", "4 bits", 6.5, "10x", "1.2 bits", "6 bits"])
def test_targets_are_met_within_one_per_cent(source, tmp_path, target):
    report = nw.compress_file(source, tmp_path / "a.nwt", target=target)
    own = [t for n, t in model().items() if n != "head"]
    original, elements = sum(t.nbytes for t in own), sum(t.size for t in own)
    sizes = {"12KB": 12000, 6.5: original / 6.5, "10x": original / 10}
    wanted = sizes.get(target) or float(str(target).split()[0]) * elements / 8
    assert 0.99 * int(wanted) <= report.size <= wanted
    assert report.size == (tmp_path / "a.nwt").stat().st_size
    assert "No loss was verified" in str(report)
    found = nw.load_file(tmp_path / "a.nwt", framework="np")
    errors: dict[str, dict[str, float]] = {"matrices": {}, "vectors": {}}
    with File(tmp_path / "a.nwt") as file:
        assert file.settings == {"mode": "data-free, no loss verified", "target": str(target)}
        for name in file.names:
            if isinstance(file.representation(name), Grid):
                old = model()[name].astype(float)
                error = ((found[name].astype(float) - old) ** 2).sum() / (old**2).sum()
                errors["vectors" if old.ndim == 1 else "matrices"][name] = float(error) ** 0.5
    for kind, of_kind in errors.items():
        if of_kind:
            told = report.errors[kind]
            assert told.tensors == len(of_kind)
            assert told.median == pytest.approx(np.median(list(of_kind.values())))
            assert told.worst == pytest.approx(of_kind[told.worst_tensor]) == pytest.approx(max(of_kind.values()))
            assert f"{kind} by {100 * told.median:.3g} % (median of {len(of_kind)}), at worst " in str(report)
    for name in ("mask", "norm.steps"):
        same_bits(found[name], model()[name])
    assert (found["norm.running_var"] > 0).all()
    assert found["head"] is found["embedding"]


def test_same_input_same_bytes(source, tmp_path):
    for name in "ab":
        nw.compress_file(source, tmp_path / f"{name}.nwt", target="3 bits")
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()


def test_a_target_above_the_lossless_size_is_lossless(source, tmp_path):
    report = nw.compress_file(source, tmp_path / "a.nwt", target=1.01)
    assert report.lossless == report.tensors
    assert report.errors == {}


@pytest.mark.parametrize("bound", [0.5, 0.01, "1%", "0.02 %", 1e-6])
def test_errors_stay_within_their_bound(source, tmp_path, bound):
    report = nw.compress_file(source, tmp_path / "a.nwt", max_error=bound)
    found = nw.load_file(tmp_path / "a.nwt", framework="np")
    relative = isinstance(bound, str)
    limit = float(bound.strip(" %")) / 100 if relative else bound
    for name, tensor in model().items():
        if tensor.dtype.kind == "f":
            error = np.abs(found[name].astype(np.float64) - tensor.astype(np.float64)).max()
            assert error <= limit * (np.abs(tensor.astype(np.float64)).max() if relative else 1), name
        else:
            same_bits(found[name], tensor)
    assert (found["norm.running_var"] > 0).all()
    assert report.settings["max_error"] == str(bound)


@pytest.mark.parametrize("bound", [0, -1, "much", "nan", "inf", "%", "1%%", ""])
def test_bounds_that_mean_nothing(source, tmp_path, bound):
    with pytest.raises(nw.BadInput, match=r"max_error .* is not understood"):
        nw.compress_file(source, tmp_path / "a.nwt", max_error=bound)
    assert not (tmp_path / "a.nwt").exists()


@pytest.mark.parametrize(
    "modes", [{}, {"lossless": True, "target": 4}, {"target": 4, "max_error": 1}, {"lossless": True, "max_error": 1}]
)
def test_exactly_one_mode(source, tmp_path, modes):
    with pytest.raises(nw.BadInput, match="exactly one of lossless, target and max_error"):
        nw.compress_file(source, tmp_path / "a.nwt", **modes)


def test_what_cannot_be_reached(source, tmp_path):
    with pytest.raises(nw.TargetMissed, match="99 to 100 % of 200 bytes"):
        nw.compress_file(source, tmp_path / "a.nwt", target="200B")
    save_file({"a": np.arange(5000)}, tmp_path / "ints.safetensors")
    with pytest.raises(nw.BadInput, match="no tensor of finite floating-point numbers"):
        nw.compress_file(tmp_path / "ints.safetensors", tmp_path / "a.nwt", target=2)
    assert not (tmp_path / "a.nwt").exists()


def test_a_source_that_breaks_off_leaves_the_old_file(source, tmp_path, monkeypatch):
    (tmp_path / "a.nwt").write_bytes(b"old")
    from noworse.checkpoint.safetensors_file import SafetensorsFile

    read = SafetensorsFile.read

    def broken(self, name):
        if name == "layer.weight":
            with source.open("r+b") as file:
                file.truncate(1000)
        return read(self, name)

    monkeypatch.setattr(SafetensorsFile, "read", broken)
    with pytest.raises(nw.BadInput, match="it is truncated"):
        nw.compress_file(source, tmp_path / "a.nwt", lossless=True)
    assert (tmp_path / "a.nwt").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nwt", "model.safetensors"]


PEAK = """
import resource, sys
import numpy, safetensors, noworse
from noworse.cli import main
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "torch" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lossless", "target", "max_error", "back"])
def test_memory_is_that_of_the_largest_tensor(tmp_path, mode):
    """Of 16 tensors of 8 MB: a few times one of them is held, never all."""
    largest, count = 1 << 23, 16
    rng = np.random.default_rng(0)
    index = {}
    for number in range(count):
        file = f"model-{number}.safetensors"
        save_file({f"t{number}": rng.normal(size=(1 << 11, 1 << 10)).astype(np.float32)}, tmp_path / file)
        index[f"t{number}"] = file
    source = tmp_path / "model.safetensors.index.json"
    source.write_text(json.dumps({"weight_map": index}))
    flags = {"lossless": ["--lossless"], "target": ["--target", "3 bits"], "max_error": ["--max-error", "1%"]}
    arguments = ["compress", source, "-o", tmp_path / "a.nwt", *flags.get(mode, ["--lossless"])]
    if mode == "back":
        nw.compress_file(source, tmp_path / "a.nwt", lossless=True)
        arguments = ["decompress", tmp_path / "a.nwt", "-o", tmp_path / "back.safetensors"]
    found = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    peak, torch = found.stdout.splitlines()[-1].split()
    assert int(peak) * 1024 < 4 * largest + (16 << 20) < count * largest / 2
    assert torch == "False"


def shards(folder):
    """An index of one shard, and both files."""
    save_file(model(), folder / "part.safetensors")
    names = {"weight_map": dict.fromkeys(model(), "part.safetensors")}
    (folder / "m.safetensors.index.json").write_text(json.dumps(names))
    return folder, ["m.safetensors.index.json", "part.safetensors"]


@pytest.mark.parametrize("ways", [{"lossless": True}, {"target": 4}, {"max_error": "1%"}])
def test_no_file_takes_the_place_of_what_it_is_made_from(source, tmp_path, ways):
    (tmp_path / "link").symlink_to(source.name)
    (tmp_path / "folder").mkdir()
    folder, names = shards(tmp_path / "folder")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for place, out in [(source, source), (source, tmp_path / "link"), *((folder, folder / name) for name in names)]:
        with pytest.raises(nw.BadInput, match="which is read; expected another file"):
            nw.compress_file(place, out, **ways)
    assert main(["compress", str(source), "--lossless", "-o", str(source)]) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_place_where_nothing_can_be_written_is_told_first(source, tmp_path, monkeypatch):
    monkeypatch.setattr("noworse.datafree.files._survey", None)
    with pytest.raises(nw.BadInput, match="existing, writable folder"):
        nw.compress_file(source, tmp_path / "missing" / "x.nwt", target=4)
