"""Which file of which kind a path means."""

from __future__ import annotations

from pathlib import Path

from noworse.checkpoint.base import Checkpoint
from noworse.checkpoint.safetensors_file import SafetensorsFile
from noworse.checkpoint.sharded import Sharded
from noworse.errors import BadInput

INDEX = ".index.json"
PICKLED = (".pt", ".pth", ".bin")
ENDINGS = (".safetensors", *PICKLED, INDEX)


def is_checkpoint(path: str) -> bool:
    """Whether ``path`` ends as a model file does, or is a folder; a task does neither (file.py:object)."""
    return path.endswith(ENDINGS) or Path(path).is_dir()


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a model file, an index of shards, or a folder with one of them; BadInput for what is none, OSError."""
    path = _in_folder(Path(path)) if Path(path).is_dir() else Path(path)
    return Sharded(path, _open_file) if path.name.endswith(INDEX) else _open_file(path)


def _open_file(path: Path) -> Checkpoint:
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix in PICKLED:
        from noworse.checkpoint.torch_file import TorchFile

        return TorchFile(path)
    raise BadInput(f"{path} is no model file: expected one that ends in {', '.join(ENDINGS)}")


def _in_folder(folder: Path) -> Path:
    """The index of shards in a folder, or its only safetensors file."""
    for ending in (f".safetensors{INDEX}", ".safetensors"):
        found = sorted(folder.glob(f"*{ending}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise BadInput(f"{folder} holds {', '.join(path.name for path in found[:8])}: name the one to compress")
    raise BadInput(f"{folder} holds no .safetensors file and no index of shards")
