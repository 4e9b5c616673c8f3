"""What the sections of a benchmark are given: how much to measure, and results of cases in processes of their own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.harness.case import in_own_process

Item = TypeVar("Item")


@dataclass(frozen=True)
class Run:
    """One run of a benchmark. What cases return stays in ``folder``, where a run that was cut off goes on."""

    quick: bool = False
    folder: Path = Path("work")
    fresh: bool = False  # ignore what earlier runs left in the folder
    workers: int = 1
    options: argparse.Namespace = field(default_factory=argparse.Namespace)  # those that the benchmark adds
    _made: set[Path] = field(default_factory=set)

    def few(self, items: Sequence[Item], count: int = 1) -> Sequence[Item]:
        """All items, or the first ones in a quick run."""
        return items[:count] if self.quick else items

    def case(
        self,
        key: str,
        function: Callable[..., Any],
        *arguments: object,
        environment: Mapping[str, str] | None = None,
    ) -> Any:
        """What the function returns, from the folder or from a new process; ``key`` names its file."""
        path = self.folder / f"{key.replace(' ', '_')}{'_quick' if self.quick else ''}.json"
        if path not in self._made and (self.fresh or not path.exists()):
            result = in_own_process(function, *arguments, environment=environment)
            print(f"{key}: done", file=sys.stderr)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(result))
            partial.replace(path)  # whole or not at all
            self._made.add(path)
        return json.loads(path.read_text())

    def cases(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Sequence[object]],
        environment: Mapping[str, str] | None = None,
    ) -> list[Any]:
        """The results of several cases by their keys, as many at a time as there are workers."""

        def one(key: str) -> Any:
            return self.case(key, function, *arguments[key], environment=environment)

        if self.workers == 1:
            return [one(key) for key in arguments]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(one, arguments))
