"""Several files that make one model, as Hugging Face writes them: an index in JSON names the file of every tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from noworse.checkpoint.base import Checkpoint
from noworse.errors import BadInput

INDEX_BYTES = 100_000_000  # the limit that safetensors sets for a header


class Sharded(Checkpoint):
    """The tensors of all shards, shard after shard; BadInput where index and shards disagree."""

    def __init__(self, index: str | Path, open_shard: Callable[[Path], Checkpoint]) -> None:
        index = Path(index)
        files = _weight_map(index)
        shards = {file: open_shard(index.parent / file) for file in sorted(set(files.values()))}
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
    with index.open("rb") as file:
        text = file.read(INDEX_BYTES + 1)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{index} is no JSON: {error}") from error
    files = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()) or not files:
        raise BadInput(f'{index}: expected an object "weight_map" that names the file of every tensor')
    for file in set(files.values()):
        if PurePosixPath(file).name != file or "\\" in file or file in ("", ".", ".."):
            raise BadInput(f"{index} names the file {file!r}, expected one in its own folder")
    return files
