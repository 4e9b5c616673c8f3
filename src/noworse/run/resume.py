"""A folder in which a run that was killed goes on: one checkpoint, written whole or not at all.

A resumed run repeats what comes before tuning, which is a function of its inputs, passes over the stages that the
checkpoint has behind it, and goes on within the stage where it was made. Verbs without tuning repeat what they propose,
and keep what was measured of it (``Work.keep``). The file is in the safetensors format, with
the rest as JSON in its metadata and a digest over everything.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn

from noworse.errors import BadInput, CorruptFile
from noworse.format.source import atomic_file, open_regular
from noworse.run.processes import ALONE, World
from noworse.task.data import Batch, leaves


def content(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor's elements, without a copy where they lie in memory as they are."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def digest(tensors: Iterable[tuple[str, Tensor]], text: str = "") -> str:
    """Return one digest of a text and of tensors: their names, shapes, dtypes and elements, in their order."""
    state = hashlib.blake2b(text.encode(), digest_size=16)
    for name, tensor in tensors:
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(content(tensor))
    return state.hexdigest()


def module_digest(module: nn.Module) -> str:
    """Return the digest of every entry of a module's state that is a tensor."""
    return digest((name, value) for name, value in module.state_dict().items() if isinstance(value, Tensor))


def batches_digest(batches: Iterable[Batch]) -> str:
    """Return the digest of the tensors of all batches, in their order."""
    return digest((str(index), tensor) for index, batch in enumerate(batches) for tensor in leaves(batch))


NAME = "run.safetensors"
FORM: dict[str, Any] = {"given": {}, "notes": {}, "position": {}}
EVERY, SHARE = 30.0, 0.05  # seconds between checkpoints at least, and the most of the time that they may take
Tensors: TypeAlias = Iterable[tuple[str, Tensor]]
TAGS = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64", torch.uint8: "U8"}


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any], fetched: Tensors | None = None
) -> None:
    """Write tensors and JSON values to ``path`` as one safetensors file, in place of what is there.

    ``fetched`` yields the tensors in the order of their names, where ``tensors`` are but of their dtypes and shapes.
    """
    tensors, text, end = dict(sorted(tensors.items())), json.dumps(values), 0
    metadata = {"values": text, "digest": digest([])}  # as long as the right one, which is known in the end
    header: dict[str, Any] = {"__metadata__": metadata}
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": TAGS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    size = len(json.dumps(header))
    size += -size % 8
    with atomic_file(path) as file:  # the library would hold all tensors twice

        def written() -> Iterator[tuple[str, Tensor]]:
            for name, tensor in tensors.items() if fetched is None else fetched:
                file.write(content(tensor))
                yield name, tensor

        file.seek(8 + size)
        metadata["digest"] = digest(written(), text)
        file.seek(0)
        file.write(size.to_bytes(8, "little") + json.dumps(header).encode().ljust(size))


def damaged(path: Path | None) -> CorruptFile:
    """Return the error that says so of a checkpoint."""
    expected = "expected one as noworse wrote it; a run without one starts anew"
    return CorruptFile(f"{path} is a damaged checkpoint: {expected}")


def alike(found: Any, form: Any) -> bool:
    """Tell whether a JSON value has the types of another one: numbers for numbers, and the same keys and lengths.

    An empty object stands for any, a string for any string.
    """
    if isinstance(form, (dict, list)) and form:
        if type(found) is not type(form) or len(found) != len(form):
            return False
        keys = form if isinstance(form, dict) else range(len(form))
        return all((isinstance(form, list) or key in found) and alike(found[key], form[key]) for key in keys)
    number = isinstance(form, float) and type(found) is int
    return number or type(found) is type(form)


class RunCheckpoint:
    """A checkpoint on disk: its ``values``, and tensors to be read one by one; CorruptFile where damaged."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path, open_ = path, cast(Any, safe_open)
        try:
            open_regular(path).close()  # BadInput for what cannot be read at all
            self._file = open_(path, "pt")
            metadata, names = self._file.metadata(), sorted(self._file.keys())
            whole = digest(((name, self._file.get_tensor(name)) for name in names), metadata["values"])
            self.values: dict[str, Any] = json.loads(metadata["values"])
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:  # none of our metadata
            raise damaged(path) from error
        if whole != metadata.get("digest") or not alike(self.values, FORM):
            raise damaged(path)
        if not alike(self.values["position"].get("stage"), ""):  # the rest is up to who goes on from there
            raise damaged(path)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        return {name: self._file.get_tensor(name) for name in self._file.keys()}  # noqa: SIM118

    def read_into(self, name: str, tensor: Tensor) -> None:
        """Fill ``tensor`` with the one of this name; CorruptFile where it is of another kind or shape, or missing."""
        held = self._file.get_tensor(name) if name in self._file.keys() else None  # noqa: SIM118
        if held is None or held.dtype != tensor.dtype or held.shape != tensor.shape:
            raise damaged(self.path)
        tensor.copy_(held)


class State(NamedTuple):
    """What a run goes on from: tensors and JSON values by name; of ``parted`` tensors each rank has its own part."""

    tensors: Mapping[str, Tensor]
    position: Mapping[str, Any]
    parted: Collection[str] = ()


class _Part(NamedTuple):
    """A tensor as it is in the file: ``held`` where this rank has it, else as many elements of what is like that."""

    home: int | None  # the rank that has it; None: all of them
    held: Tensor
    shape: tuple[int, ...]

    def room(self, rank: int) -> Tensor:
        return self.held if self.home in (None, rank) else self.held.new_empty(self.shape)


class Work:
    """The checkpoints of one run in ``folder``; nothing is kept where that is None.

    ``given`` says by name what the run was given: BadInput where the folder holds a run that was given other things.
    Of several ranks the first one reads and writes.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, given: Mapping[str, Any], world: World = ALONE) -> None:
        self.world, self.given = world, dict(given)
        self.path = None if folder is None else Path(folder) / NAME
        self._found: RunCheckpoint | None = None
        self.notes: dict[str, Any] = {}
        self._kept: dict[str, Tensor] = {}
        self.position: dict[str, Any] | None = None  # of the checkpoint that is to be gone on from
        if self.path is not None:
            self._open(self.path)
        self._due = time.monotonic() + EVERY

    def _open(self, path: Path) -> None:
        def find() -> dict[str, Any] | None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BadInput(f"cannot use {path.parent} to work in: {error.strerror or error}") from error
            if not path.exists():
                return None
            self._found = RunCheckpoint(path)
            held = self._found.values["given"]
            differs = [name for name in self.given if held.get(name) != self.given[name]]
            if differs:
                what = f"{' and '.join(differs)} differ{'s' * (len(differs) == 1)}"
                raise BadInput(f"{path.parent} holds another run, whose {what}: expected the same, or an empty folder")
            return self._found.values

        values = self.world.lead(find)
        if values is not None:
            self.notes, self.position = values["notes"], values["position"]

    def note(self, name: str, action: Callable[[], Any], fits: Callable[[Any], bool] = lambda found: True) -> Any:
        """Return what an action does, of JSON's types; it is not repeated once a checkpoint has it behind it.

        CorruptFile where what the checkpoint has does not fit.
        """
        if self.path is None:
            return action()
        if name not in self.notes:
            self.notes[name] = action()
        elif not fits(self.notes[name]):
            raise damaged(self.path)
        return self.notes[name]

    def keep(self, name: str, action: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
        """Return the tensors that an action makes, of a run in one process whose position is what it has made.

        They are in its checkpoints from now on, and not made again where one has them. CorruptFile where it lacks some.
        """
        if self.path is None:
            return action()
        if self._found is not None:
            self._kept, self._found = self._found.tensors(), None
        if name not in self.notes:
            made = list(action())
            self.notes[name] = len(made)
            self._kept |= {f"{name}, {k}": tensor for k, tensor in enumerate(made)}
            self.offer(lambda: State(self._kept, {"stage": name}))
        try:
            return [self._kept[f"{name}, {k}"] for k in range(self.notes[name])]
        except (KeyError, TypeError) as error:
            raise damaged(self.path) from error

    def number(self, name: str, action: Callable[[], float]) -> float:
        """Return the number that an action makes, kept as ``keep`` does."""
        return float(self.keep(name, lambda: [torch.tensor(action(), dtype=torch.float64, device="cpu")])[0])

    def _parts(self, state: State) -> dict[str, _Part]:
        """The tensors of all ranks as they are in a file, by name, sorted."""
        found = {}
        for name, tensor in state.tensors.items():
            if name not in state.parted or self.world.size == 1:
                found[name] = _Part(None, tensor, tuple(tensor.shape))
                continue
            for rank in range(self.world.size):
                found[f"{name} of rank {rank}"] = _Part(rank, tensor, tuple(self.world.agree(list(tensor.shape), rank)))
        return dict(sorted(found.items()))

    def read_into(self, state: State) -> None:
        """Fill the tensors of every rank from the checkpoint on disk, which is then behind this run."""
        for name, part in self._parts(state).items():
            room = part.room(self.world.rank)
            if self._found is not None:
                self._found.read_into(name, room)
            self.world.copy_([room])
        self._found = self.position = None

    def offer(self, make: Callable[[], State], now: bool = False) -> None:
        """Write a checkpoint of the state that ``make`` gives, if it is time for one; all ranks ask."""
        if self.path is None or not self.world.lead(lambda: now or time.monotonic() >= self._due):
            return
        begin, state = time.monotonic(), make()
        parts = self._parts(state)
        if self.world.first:
            forms = {name: part.held.new_empty(part.shape, device="meta") for name, part in parts.items()}
            values = {"given": self.given, "notes": self.notes, "position": state.position}
            write_checkpoint(self.path, forms, values, self._gathered(parts))
        else:
            for _ in self._gathered(parts):
                pass
        self._due = time.monotonic() + max(EVERY, (time.monotonic() - begin) / SHARE) * (EVERY > 0)

    def _gathered(self, parts: Mapping[str, _Part]) -> Iterator[tuple[str, Tensor]]:
        """The same tensors one by one, on the first rank."""
        for name, part in parts.items():
            room = part.room(self.world.rank)
            if part.home:
                self.world.copy_([room], part.home)
            yield name, room

    def clean(self) -> None:
        """Remove the checkpoint, and the folder if nothing else is in it: the run is done."""
        if self.path is not None and self.world.first:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # other files are in it
                self.path.parent.rmdir()


NOWHERE = Work(None, {})
