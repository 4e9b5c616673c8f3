"""Which model file a path means, and several files that make one model, as Hugging Face writes them."""

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from noworse.checkpoint.base import Checkpoint
from noworse.checkpoint.safetensors_file import SafetensorsFile
from noworse.errors import BadInput
from noworse.format.source import expanded, open_regular

INDEX = ".index.json"
PICKLED = (".pt", ".pth", ".bin", ".ckpt")
ENDINGS = (".safetensors", *PICKLED, INDEX)
STRANGE = {"\\", "\0", *map(chr, range(0xD800, 0xE000))}  # in names of files: halves of surrogate pairs are no text
INDEX_BYTES = 100_000_000  # the limit that safetensors sets for a header


def is_checkpoint(path: str) -> bool:
    """Tell whether ``path`` ends as a model file does, or is a folder; a task does neither (file.py:object)."""
    return path.endswith(ENDINGS) or Path(path).is_dir()


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a model file, an index of shards, or a folder with one of them; BadInput for what is none, OSError."""
    if not isinstance(path, (str, os.PathLike)):
        raise BadInput(f"the model file is a {type(path).__name__}: expected a path (noworse.compress takes models)")
    path = expanded(path)
    path = _in_folder(path) if path.is_dir() else path
    return Sharded(path) if path.name.endswith(INDEX) else _open_file(path)


def _open_file(path: Path) -> Checkpoint:
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix in PICKLED:
        from noworse.checkpoint.torch_file import TorchFile

        return TorchFile(path)
    raise BadInput(f"{path} is no model file: expected one that ends in {', '.join(ENDINGS)}")


def _in_folder(folder: Path) -> Path:
    """The index of shards in a folder, or its only model file; safetensors come first."""
    for ending in (f".safetensors{INDEX}", ".safetensors", f".bin{INDEX}", ".bin"):
        found = sorted(folder.glob(f"*{ending}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise BadInput(f"{folder} holds {', '.join(path.name for path in found[:8])}: name the one to compress")
    raise BadInput(f"{folder} holds no .safetensors or .bin file and no index of shards")


class Sharded(Checkpoint):
    """The tensors of all shards that an index in JSON names, shard after shard; BadInput where they disagree."""

    def __init__(self, index: Path) -> None:
        files = _weight_map(index)
        shards = {file: _open_file(index.parent / file) for file in sorted(set(files.values()))}
        self.paths = [index, *(path for shard in shards.values() for path in shard.paths)]
        self._of: dict[str, Checkpoint] = {}
        for file, shard in shards.items():
            for name in shard.headers:
                if files.get(name) != file:
                    raise BadInput(f"{index}: tensor {name!r} lies in {file}, the index says {files.get(name)}")
                self._of[name] = shard
        self.metadata = {name: text for shard in shards.values() for name, text in shard.metadata.items()}
        missing = [name for name in files if name not in self._of]
        if missing:
            raise BadInput(f"{index}: no shard holds {', '.join(missing[:8])}")
        self.headers = {name: shard.headers[name] for name, shard in self._of.items()}

    def read(self, name: str) -> NDArray[Any]:
        """See ``Checkpoint.read``."""
        return self._of[name].read(name)


def _weight_map(index: Path) -> dict[str, str]:
    """File by tensor. Files lie beside the index: an index from a stranger must not name others."""
    with open_regular(index) as file:
        text = file.read(INDEX_BYTES + 1)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{index} is no JSON: {error}") from error
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()) or not files:
        raise BadInput(f'{index}: expected an object "weight_map" that names the file of every tensor')
    for file in set(files.values()):
        if PurePosixPath(file).name != file or not STRANGE.isdisjoint(file) or file in ("", ".", ".."):
            raise BadInput(f"{index} names the file {file!r}, expected one in its own folder")
    return files
