"""Loading and saving under the names that safetensors uses; torch is imported only where its tensors are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noworse.checkpoint.storage import (
    dtype_name,
    import_torch,
    lossless,
    numpy_key,
    numpy_storage,
    torch_key,
    torch_storage,
)
from noworse.errors import BadInput, MismatchedModule
from noworse.format import File, write
from noworse.representation import Representation, Tied, to_numpy

if TYPE_CHECKING:
    from torch import Tensor, nn

    Module = nn.Module


def load_file(path: str | Path, framework: str = "torch", max_bytes: int | None = None) -> dict[str, Any]:
    """All tensors of a file, by name; tied names hold the same object.

    ``framework`` is "torch" (exact dtypes) or "numpy" (bfloat16 and float8 become float32 of the same values);
    ``max_bytes`` limits the decoded size. Tensors are cut from common blocks of memory of about 32 MiB, each of which
    stays while any of its tensors does (``safe_open`` gives single ones). CorruptFile for a damaged file, the digest of
    its tensors included.
    """
    convert = _converter(framework)
    tensors: dict[str, Any] = {}
    with File(path, max_bytes) as file:
        for name, content in file.stored():  # converted here, while threads decode what comes next
            dtype = file.entry(name).signature.dtype
            tensors[name] = content if isinstance(content, str) else convert(content, dtype)
    return {name: tensors[found] if isinstance(found, str) else found for name, found in tensors.items()}


def save_file(tensors: Mapping[str, Tensor | NDArray[Any]], path: str | Path) -> int:
    """Write tensors bit for bit and return the bytes of the file; tied tensors are stored once.

    BadInput for a tensor that cannot be stored (sparse, quantized, of strings, ...) or a path that cannot be written.
    """
    return write(path, Lossless(tensors), {})


def load_model(module: Module, path: str | Path, factorised: bool = False) -> Module:
    """Load a file strictly into ``module``, in place, and return it; parameters take the dtypes of the file.

    Tensors of low rank are multiplied out, except where a layer of the module is in factors already (``decompose``);
    with ``factorised`` layers whose weight is of low rank in the file are replaced by factors first. Ties are those of
    the module itself. MismatchedModule, before anything is changed, names every missing, unexpected or unfitting
    tensor; CorruptFile for a damaged file.
    """
    tensors: dict[str, Tensor] = load_file(path)
    from noworse.model.products import into_factors  # imports torch, which load_file has found

    tensors = into_factors(module, path, tensors, factorised)
    state = {name: value for name, value in module.state_dict().items() if hasattr(value, "shape")}
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own.update(module.named_buffers(remove_duplicate=False))
    _check_fit(state, own, tensors, str(path))
    for name, tensor in tensors.items():
        if name in own and own[name].dtype != tensor.dtype:
            own[name].data = own[name].data.to(tensor.dtype)
    module.load_state_dict(tensors, strict=False)  # names were checked; extra state that is no tensor stays
    return module


class safe_open:  # noqa: N801  (the name that safetensors gave it)
    """A file whose tensors are decoded one at a time: a context manager with keys(), get_tensor(name), metadata()."""

    def __init__(self, path: str | Path, framework: str = "torch", max_bytes: int | None = None) -> None:
        self._convert = _converter(framework)
        self._file = File(path, max_bytes)

    def __enter__(self) -> safe_open:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def keys(self) -> list[str]:
        """Names of all tensors, in file order."""
        return self._file.names

    def get_tensor(self, name: str) -> Any:
        """One decoded tensor; checksums of its blocks are verified, the digest of the whole file is not."""
        stored = self._file.storage(name)
        if isinstance(stored, str):
            stored = self._file.storage(stored)
        assert not isinstance(stored, str)  # ties are never to what is tied itself
        return self._convert(stored, self._file.entry(name).signature.dtype)

    def metadata(self) -> dict[str, Any]:
        """What the file says about itself: "settings" and "verdict"."""
        return {"settings": self._file.settings, "verdict": self._file.verdict}


def _converter(framework: str) -> Callable[[NDArray[Any], str], Any]:
    if framework == "numpy":
        return to_numpy
    if framework != "torch":
        raise BadInput(f'framework {framework!r}, expected "torch" or "numpy"')
    torch = import_torch()

    def to_torch(stored: NDArray[Any], dtype: str) -> Tensor:
        if not hasattr(torch, dtype):
            raise BadInput(f"torch {torch.__version__} has no dtype {dtype}; framework='numpy' can read it")
        tensor: Tensor = torch.from_numpy(stored).view(getattr(torch, dtype))
        return tensor

    return to_torch


def represent(name: str, tensor: Tensor | NDArray[Any]) -> Representation:
    """How a tensor is written bit for bit: as one value where all elements agree, else as it is; BadInput as above."""
    copy = tensor.copy() if isinstance(tensor, np.ndarray) else tensor.clone()
    return Lossless({name: copy})[name]


class Lossless(Mapping[str, Representation]):
    """Representations made when asked for, so that one tensor at a time is copied."""

    def __init__(self, tensors: Mapping[str, Tensor | NDArray[Any]]) -> None:
        self._tensors = dict(tensors.items())  # all kept alive: a freed tensor's address may be given to another
        self._ties: dict[str, str] = {}
        first: dict[tuple[Any, ...], str] = {}
        for name, tensor in self._tensors.items():
            key = numpy_key(name, tensor) if isinstance(tensor, np.ndarray) else torch_key(name, tensor)
            if 0 not in tensor.shape and first.setdefault(key, name) != name:
                self._ties[name] = first[key]

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __getitem__(self, name: str) -> Representation:
        tensor = self._tensors[name]
        dtype = dtype_name(tensor)
        if name in self._ties:
            return Tied(self._ties[name], tuple(tensor.shape), dtype)
        stored = numpy_storage(tensor) if isinstance(tensor, np.ndarray) else torch_storage(tensor)
        return lossless(stored, dtype)


def _check_fit(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str
) -> None:
    common = [name for name in state if name in tensors]
    reasons = {
        "missing from the file": [name for name in state if name not in tensors],
        "not in the module": [name for name in tensors if name not in state],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)}, expected {tuple(state[name].shape)}"
            for name in common
            if state[name].shape != tensors[name].shape
        ],
        "not floating-point but trained": [
            f"{name} {tensors[name].dtype}"
            for name in common
            if name in own and own[name].requires_grad and not tensors[name].dtype.is_floating_point
        ],
        "tied in the module but different in the file": _broken_ties(own, tensors),
    }
    found = "; ".join(f"{what}: {', '.join(names)}" for what, names in reasons.items() if names)
    if found:
        raise MismatchedModule(f"{path} does not fit the module: {found}")
    meta = [name for name, tensor in state.items() if tensor.device.type == "meta"]
    if meta:
        raise BadInput(f"tensors of the module have no storage (device meta): {', '.join(meta)}; call to_empty first")


def _broken_ties(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """Pairs of names that are one tensor in the module, with values that are not equal in the file."""
    first: dict[int, str] = {}
    pairs = [(first.setdefault(id(own[name]), name), name) for name in tensors if name in own]
    return [f"{a} and {b}" for a, b in pairs if tensors[a] is not tensors[b] and not tensors[a].equal(tensors[b])]
