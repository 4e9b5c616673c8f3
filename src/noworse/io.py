"""Loading and saving under the names that safetensors uses; torch is imported only where its tensors are wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from noworse.checkpoint.base import TO_SAFETENSORS
from noworse.checkpoint.storage import as_tensor, dtype_name, import_torch, key, lossless, storage, usable_device
from noworse.errors import BadInput
from noworse.format import METADATA, File, Lazy, pack, write
from noworse.representation import Representation, Tied, to_numpy

if TYPE_CHECKING:
    from torch import Tensor, device

    Device: TypeAlias = str | int | device
    Tensors: TypeAlias = Mapping[str, Tensor | NDArray[Any]]

Framework: TypeAlias = Literal["pt", "torch", "np", "numpy"]
KEPT = 1 << 24  # bytes of a tensor that may be asked for under other names
TORCH, NUMPY = ("pt", "torch"), ("np", "numpy")


def load_file(
    f: str | Path, device: Device = "cpu", *, framework: Framework = "pt", max_bytes: int | None = None
) -> dict[str, Any]:
    """Return all tensors of a file by name, on ``device``; tied names hold the same object.

    ``framework`` is "pt" (torch, exact dtypes) or "np" (numpy, which gets bfloat16 and float8 as float32 of the same
    values); ``max_bytes`` limits the decoded size. Tensors are cut from common blocks of memory of about 32 MiB, each
    of which stays while any of its tensors does (``safe_open`` gives single ones). CorruptFile for a damaged file, the
    digest of its tensors included.
    """
    return _load(f, device, framework, max_bytes)


def load(
    data: bytes, device: Device = "cpu", *, framework: Framework = "pt", max_bytes: int | None = None
) -> dict[str, Any]:
    """Return all tensors of a file that is in memory, as ``load_file`` does."""
    return _load(data, device, framework, max_bytes)


def save_file(tensors: Tensors, f: str | Path, metadata: Mapping[str, str] | None = None) -> int:
    """Write tensors bit for bit, with texts beside them, and return the bytes of the file; ties are stored once.

    BadInput for a tensor that cannot be stored (sparse, quantized, of strings, ...) or a path that cannot be written.
    """
    return write(f, Lossless(tensors), _settings(metadata))


def save(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the file that ``save_file`` would write."""
    return pack(Lossless(tensors), _settings(metadata), None)


class safe_open:  # noqa: N801  (the name that safetensors gave it)
    """A file whose tensors are decoded one at a time, when they are asked for: a context manager.

    Checksums of what is decoded are verified, the digest of the whole file is not. BadInput for tensors that are asked
    for after the ``with`` block.
    """

    def __init__(
        self, f: str | Path, framework: Framework = "pt", device: Device = "cpu", *, max_bytes: int | None = None
    ) -> None:
        self._convert = _converter(framework, device)
        self._file = File(f, max_bytes)
        self._kept: tuple[str, NDArray[Any]] | None = None  # what a tied tensor is tied to, if it is small

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def keys(self) -> list[str]:
        """Return the names of all tensors, in the order in which they were saved."""
        return self._file.names

    def offset_keys(self) -> list[str]:
        """Return the names of all tensors, in the order of their data in the file."""
        return sorted(self._file.names, key=self._file.offset)

    def get_tensor(self, name: str) -> Any:
        """Return one tensor; a tied one is that of its target."""
        stored, dtype = self._file.storage(name), self._file.entry(name).signature.dtype
        return self._convert(self._target(stored) if isinstance(stored, str) else stored, dtype)

    def _target(self, name: str) -> NDArray[Any]:
        """Elements of what a tensor is tied to: decoded once where many are tied to the same and it is small."""
        if self._kept is None or self._kept[0] != name:
            stored = self._file.representation(name).storage()
            if stored.nbytes > KEPT:
                return stored
            self._kept = name, stored
        return self._kept[1].copy()

    def get_tensors(self) -> dict[str, Any]:
        """Return all tensors by name."""
        return {name: self.get_tensor(name) for name in self.offset_keys()}

    def get_slice(self, name: str) -> Slice:
        """Return a view of one tensor whose parts are decoded when they are indexed."""
        signature = self._file.entry(name).signature
        return Slice(lambda: self.get_tensor(name), signature.shape, signature.dtype)

    def metadata(self) -> dict[str, str] | None:
        """Return the texts that were saved beside the tensors; None without any."""
        return self._file.metadata or None

    @property
    def settings(self) -> dict[str, Any]:
        """How the file was made."""
        return self._file.settings

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The result of the test that the file was put to; None where there was none."""
        return self._file.verdict


class Slice:
    """A tensor that is not decoded yet: ``slice[1:3, ::2]`` gives the part; made by ``safe_open.get_slice``."""

    def __init__(self, get: Callable[[], Any], shape: tuple[int, ...], dtype: str) -> None:
        self._get, self._shape, self._dtype = get, shape, dtype

    def get_shape(self) -> list[int]:
        """Return the extents of the whole tensor."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """Return the dtype as safetensors calls it: "F32", "BF16", "I64", ..."""
        return TO_SAFETENSORS.get(self._dtype, self._dtype.upper())

    def __getitem__(self, index: Any) -> Any:
        whole = self._get()
        try:
            part = whole[index]
        except (IndexError, TypeError, ValueError) as error:
            raise BadInput(f"{index!r} is no part of a tensor of shape {self._shape}: {error}") from error
        return np.array(part) if isinstance(whole, np.ndarray) else part.clone()  # the rest need not be kept


def _load(source: str | Path | bytes, device: Device, framework: Framework, max_bytes: int | None) -> dict[str, Any]:
    convert = _converter(framework, device)
    tensors: dict[str, Any] = {}
    with File(source, max_bytes) as file:
        for name, content in file.stored():  # converted here, while threads decode what comes next
            dtype = file.entry(name).signature.dtype
            tensors[name] = content if isinstance(content, str) else convert(content, dtype)
    return {name: tensors[found] if isinstance(found, str) else found for name, found in tensors.items()}


def _settings(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    for name, text in (metadata or {}).items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise BadInput(f"metadata {name!r}: {text!r} is a {type(text).__name__}, expected texts by name")
    return {METADATA: dict(metadata)} if metadata else {}


def _converter(framework: str, device: Device) -> Callable[[NDArray[Any], str], Any]:
    if framework in NUMPY:
        if str(device) != "cpu":
            raise BadInput(f"device {device!r} for arrays of numpy, expected 'cpu'")
        return to_numpy
    if framework not in TORCH:
        raise BadInput(f'framework {framework!r}, expected "pt" or "np"')
    torch, place = import_torch(), usable_device(device)

    def to_torch(stored: NDArray[Any], dtype: str) -> Tensor:
        if not hasattr(torch, dtype):
            raise BadInput(f"torch {torch.__version__} has no dtype {dtype}; framework='np' can read it")
        tensor: Tensor = as_tensor(stored, dtype)
        return tensor.to(place)

    return to_torch


def represent(name: str, tensor: Tensor | NDArray[Any]) -> Representation:
    """Return a tensor bit for bit, as one value where all elements agree; BadInput where it cannot be stored."""
    copy = tensor.copy() if isinstance(tensor, np.ndarray) else tensor.clone()
    return Lossless({name: copy})[name]


class Lossless(Lazy[Representation]):
    """Representations of tensors, bit for bit, made when asked for, so that one tensor at a time is copied."""

    def __init__(self, tensors: Tensors) -> None:
        if not isinstance(tensors, Mapping):
            raise BadInput(f"tensors are a {type(tensors).__name__}: expected a mapping, such as model.state_dict()")
        kept = dict(tensors.items())  # all kept alive: a freed tensor's address may be given to another
        first: dict[tuple[Any, ...], str] = {}
        ties = {name: first.setdefault(key(name, tensor), name) for name, tensor in kept.items()}
        super().__init__({name: partial(_represent, tensor, ties[name], name) for name, tensor in kept.items()})


def _represent(tensor: Any, first: str, name: str) -> Representation:
    if first != name and 0 not in tensor.shape:
        return Tied(first, tuple(tensor.shape), dtype_name(tensor))
    return lossless(storage(tensor), dtype_name(tensor))
