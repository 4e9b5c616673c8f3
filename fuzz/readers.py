"""One file through every reader and command: each reads it alike or refuses it, in little time and memory."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks.forge import small_model
from fuzz.check import MAX_BYTES, SECONDS
from noworse.checkpoint import write_safetensors
from noworse.checkpoint.base import FROM_SAFETENSORS
from noworse.cli.inspect import examine, render
from noworse.cli.verify import read_verdict
from noworse.errors import BadInput, CorruptFile
from noworse.format import File, pack, restamp
from noworse.io import load_file, safe_open
from noworse.report.bench import bench_file
from noworse.representation import DTYPES

Content = dict[str, tuple[str, tuple[int, ...], bytes]]  # dtype, shape, elements by name
SHOWN = 200  # tensors that are asked for one by one
BENCH = 16  # one case in so many


def bits(tensor: Any) -> bytes:
    """The elements of a tensor of torch as bytes."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def by_load(path: Path) -> Content:
    """All tensors, as torch has them."""
    found = load_file(path, max_bytes=MAX_BYTES)
    return {name: (str(t.dtype).removeprefix("torch."), tuple(t.shape), bits(t)) for name, t in found.items()}


def by_numpy(path: Path) -> Content:
    """Those whose dtype numpy has itself."""
    with File(path, MAX_BYTES) as file:
        dtypes = {name: file.entry(name).signature.dtype for name in file.names}
    found = load_file(path, framework="np", max_bytes=MAX_BYTES)
    return {n: (dtypes[n], a.shape, a.tobytes()) for n, a in found.items() if DTYPES[dtypes[n]].native}


def by_name(path: Path) -> Content:
    """One by one, and in parts."""
    content: Content = {}
    with safe_open(path, max_bytes=MAX_BYTES) as file:
        assert sorted(file.offset_keys()) == sorted(file.keys())
        file.metadata()
        for name in file.keys()[:SHOWN]:
            whole, part = file.get_tensor(name), file.get_slice(name)
            content[name] = str(whole.dtype).removeprefix("torch."), tuple(part.get_shape()), bits(whole)
            part.get_dtype()
            if whole.dim() and len(whole):
                assert bits(part[len(whole) // 2 :]) == bits(whole[len(whole) // 2 :]), "a slice is another part"
    return content


def by_inspect(path: Path) -> None:
    """What ``noworse inspect`` prints."""
    found = examine(str(path), MAX_BYTES)
    assert sum(found["bytes"].values()) == found["size"], "bytes are attributed twice or never"
    assert json.loads(json.dumps(found)) is not None
    assert render(found).isprintable() or "\n" in render(found)


def by_decompress(path: Path) -> Content:
    """What ``noworse decompress`` writes, as the library reads it; BadInput for what it cannot hold."""
    from safetensors import deserialize

    out = io.BytesIO()
    with File(path, MAX_BYTES) as file:
        write_safetensors(file, out)
    if len(out.getvalue()) > MAX_BYTES:
        return {}
    found = deserialize(out.getvalue())
    return {n: (FROM_SAFETENSORS[t["dtype"]], tuple(t["shape"]), bytes(t["data"])) for n, t in found}


def by_restamp(path: Path) -> Content:
    """The same file with another verdict."""
    copy = path.with_name("stamped.nwt")
    copy.write_bytes(path.read_bytes())
    restamp(copy, {"verdict": "inconclusive"})
    with File(copy, MAX_BYTES) as file:
        assert file.verdict == {"verdict": "inconclusive"}
    return by_load(copy)


def by_verify(path: Path) -> None:
    """What ``noworse verify`` reads before it judges."""
    read_verdict(str(path))


READERS: dict[str, Callable[[Path], Content | None]] = {
    "load": by_load, "numpy": by_numpy, "open": by_name, "inspect": by_inspect, "decompress": by_decompress,
    "restamp": by_restamp, "verify": by_verify,
}  # fmt: skip


def read_all(data: bytes, folder: Path, number: int) -> str:
    """Read a file in every way: "decoded" or "refused"; an AssertionError where two ways differ or one takes long."""
    path = folder / "case.nwt"
    path.write_bytes(data)
    readers = {**READERS, **({"bench": by_bench} if number % BENCH == 0 else {})}
    contents: dict[str, Content | None] = {}
    refused: dict[str, str] = {}
    for name, reader in readers.items():
        start = time.process_time()
        try:
            contents[name] = reader(path)
        except CorruptFile as error:
            refused[name] = str(error)
        except BadInput as error:  # a dtype, or a name, that torch or safetensors lacks
            refused[name] = str(error)
            if name in ("numpy", "inspect", "verify"):
                raise
        taken = time.process_time() - start
        assert taken <= SECONDS or name == "bench", f"{name} took {taken:.2f} s"
    decoded = contents.get("load") or {}
    for name, content in contents.items():
        if content and "load" in contents:
            differ = [n for n, tensor in content.items() if decoded[n] != tensor]
            assert not differ, f"{name} reads other values than load: {differ[:3]}"
    if "numpy" in contents:  # the digest is right, so that all must read the file
        late = {name: why for name, why in refused.items() if name not in ("verify", "decompress")}
        late = {name: why for name, why in late.items() if "has no dtype" not in why and "has dtype" not in why}
        assert not late, f"load reads it, others refuse it: {late}"
    return "decoded" if "numpy" in contents else "refused"


def by_bench(path: Path) -> None:
    """What ``noworse bench`` measures, once."""
    bench_file(path, 1, MAX_BYTES)


def warm_up(folder: Path) -> None:
    """Import what readers import, before memory is limited."""
    torch.set_num_threads(1)
    np.ones(2) @ np.ones(2)
    assert read_all(pack(small_model(), {}, None), folder, 0) == "decoded"
