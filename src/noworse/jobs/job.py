"""What the three stories share: checked inputs, what the original loses, checkpoints, the judge, the gate, the file."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import nn

from noworse.errors import BadInput, TargetMissed
from noworse.format import packed_size, write
from noworse.format.source import AnyPath, create_beside, destination, expanded
from noworse.jobs.report import Judged
from noworse.judge.original import Original
from noworse.judge.verdict import Verdict, parse_tolerance
from noworse.judge.verify import verify_module
from noworse.model.device import home, own_random, room, steady
from noworse.model.tensors import state_tensors
from noworse.model.wrapped import eager
from noworse.representation import Representation
from noworse.run.processes import ALONE, World
from noworse.run.resume import Work, batches_digest, module_digest
from noworse.task import data
from noworse.task.distances import are_logits
from noworse.task.task import Task
from noworse.tune.options import Options
from noworse.tune.progress import Progress, ProgressLine, stage

DEFAULTS = Options()
STANDARD = "1%"  # the tolerance where none is asked for


def _silent(step: ProgressLine) -> None:
    """Progress that nobody hears of."""


Result = TypeVar("Result", bound=Judged)


class Job:
    """A task whose data are checked and whose original is measured; ``judge`` compares others with it.

    ``limit`` is the tolerance in the loss's unit. With a tolerance of None the standard one is reported and nothing is
    refused. BadInput for data, a loss or a metric that cannot be used.
    """

    def __init__(
        self,
        task: Task,
        tolerance: float | str | None,
        options: Options = DEFAULTS,
        world: World = ALONE,
        progress: Progress | None = None,
    ) -> None:
        if progress is not None and not callable(progress):
            raise BadInput(f"progress is {progress!r}: expected a function of a ProgressLine, or None")
        state_tensors(task.model)  # what cannot be compressed is better known before anything is computed
        self.task, self.tolerance, self.options, self.world = task, tolerance, options, world
        self.confidence = options.confidence
        self.progress: Progress = progress if progress is not None and world.first else _silent
        self.calib, self.verify = data.disjoint(task.calib, task.verify)
        self.calib_samples = sum(data.batch_size(batch) for batch in self.calib)
        self.samples = sum(data.batch_size(batch) for batch in self.verify)
        self.original = Original(task, self.verify, world=world)
        if world.size > 1:  # which share what follows
            world.require_same({"verify": self._verify_digest})
        with default_dtype(task.default_dtype):
            self.original_loss = self.original.mean_loss
            _ = self.original.metric  # one that fails is better known before the work than after it
        self.limit = parse_tolerance(STANDARD if tolerance is None else tolerance, self.original_loss)
        self.work = Work(None, {}, world)

    @functools.cached_property
    def _verify_digest(self) -> str:
        return batches_digest(self.verify)

    def begin(self, folder: str | os.PathLike[str] | None, asked: Mapping[str, Any]) -> None:
        """Make sure that all ranks were asked the same; keep checkpoints in ``folder``, and go on from one there.

        BadInput where ranks were not, or where the folder holds another run.
        """
        if folder is None and self.world.size == 1:
            return
        task = self.task
        given = {"the model": module_digest(task.model), "calib": batches_digest(self.calib)}
        given["the kind of device"] = home(task.model).type
        given |= {name: str(value) for name, value in asked.items()} | {"tolerance": str(self.tolerance)}
        given |= {"distill": str(task.distill), "keep": str(list(task.keep))}
        self.world.require_same(given | {"the uses of a work folder": folder is not None})
        own = {"verify": self._verify_digest, "the number of processes": self.world.size}
        self.work = Work(folder, {**given, **own}, self.world)

    def expected(self, looks: int) -> dict[str, Any]:
        """Return a record as long as that of any verdict on these samples, to measure files before there is one."""
        unknown = ["compressed_loss", "mean_difference", "upper_bound", "lower_bound"]
        unknown += ["metric_original", "metric_compressed"] if self.task.metric or self.task.score else []
        unknown += ["changed", "mean_kl", "ear", "ear_bound"] if are_logits(self.task.distill) else []
        digits = {name: (-1) ** k * (1.23457 + 0.10351 * k) * 1e-5 for k, name in enumerate(unknown)}
        known = {"original_loss": self.original_loss, "tolerance": self.limit, "confidence": self.confidence}
        return Verdict("inconclusive", self.samples, look=looks, looks=looks, **known, **digits).record()

    def judge(self, candidate: nn.Module, look: int = 1, looks: int = 1) -> Verdict:
        """Return the verdict on a module, which is number ``look`` of the ``looks`` at these samples."""
        asked: dict[str, Any] = {"look": look, "looks": looks, "confidence": self.confidence}
        with default_dtype(self.task.default_dtype):
            return verify_module(candidate, self.original, tolerance=self.limit, **asked)

    def tell(self, name: str) -> None:
        """Report a stage that has no iterations."""
        self.progress(stage(name))

    def finish(
        self,
        result: Result,
        out: str | os.PathLike[str] | None,
        save: Callable[[Result, Path], object],
        content: Callable[[], bytes] = bytes,
    ) -> Result:
        """Return a judged result, saved to ``out`` where that is a path; TargetMissed where it is not good enough.

        ``content`` gives the bytes of a file that was missed, for the exception.
        """
        missed = None
        if self.refuses(result.verdict):
            missed = TargetMissed(f"the tolerance was not met: {result.verdict}", result, content())
        elif out is not None:
            save(result, Path(out))
        self.work.clean()  # after a miss, too: the same call would only miss again
        if missed is not None:
            raise missed
        return result

    def refuses(self, verdict: Verdict) -> bool:
        """Whether what was judged is not good enough for the tolerance that was asked for."""
        return self.tolerance is not None and not verdict.passed


@contextmanager
def run_of(
    task: Task, tolerance: float | str | None, options: Options, progress: Progress | None, device: Any = None
) -> Iterator[Job]:
    """Yield the job of a verb that runs in one process; the caller's random state is the same after it."""
    with isolated(task, device, options) as moved, own_random(home(moved.model), options.seed):
        yield Job(moved, tolerance, options, ALONE, progress)


@contextmanager
def isolated(task: Task, device: Any, options: Options) -> Iterator[Task]:
    """Allow gradients, compile nothing and make tensors in float32 in a block, whatever the caller has set.

    Yield the task with its model on a ``device``. BadInput where memory runs out there, after which a run with
    checkpoints can go on.
    """
    expected = f"a smaller Options.batch ({options.batch}), smaller batches of calib and verify, or checkpointing"
    again = "; with a work folder the same call goes on from its last checkpoint, once there is room"
    with torch.inference_mode(False), torch.enable_grad(), eager(), default_dtype(torch.float32):
        moved = task.on(device)
        with steady(home(moved.model)), room(lambda: expected + again):
            yield moved


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make tensors in another dtype, in a block, where none is named."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def seeded(options: Options, seed: int | None) -> Options:
    """Return the options with another seed, where one is given."""
    return options if seed is None else replace(options, seed=seed)


class Output:
    """A file in the making at ``partial``; at the end of a block what was not published is removed.

    Among several ranks the first one alone writes and removes. BadInput where no file can be made at ``path``, before
    any work is done.
    """

    def __init__(self, path: AnyPath, world: World) -> None:
        self.path, self.world = expanded(path), world
        self._target = destination(path) if world.first else self.path
        self._made: Path | None = None

    @property
    def partial(self) -> Path:
        """The unpublished file; its first writing makes it."""
        if self._made is None:
            self._made = create_beside(self._target)
        return self._made

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            self._made.unlink(missing_ok=True)

    def write(self, items: Mapping[str, Representation], settings: Mapping[str, Any], coder: str) -> None:
        """Write tensors and settings to the unpublished file; its verdict comes later.

        All ranks make the tensors, as each of them belongs to one (``GridSet.representations``).
        """
        if self.world.first:
            write(self.partial, items, dict(settings), coder=coder)
        else:
            packed_size(items, dict(settings), None, coder)

    def content(self) -> bytes:
        """Return the bytes of the unpublished file, on every rank."""
        return self.world.send(self.partial.read_bytes() if self.world.first else b"")

    @contextmanager
    def everywhere(self) -> Iterator[Path]:
        """Yield, in a block, the path of a file with what the unpublished one holds, on every rank."""
        content = self.content() if self.world.size > 1 else b""
        if self.world.first:
            yield self.partial
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.path.name
            path.write_bytes(content)
            yield path

    def publish(self) -> None:
        """Move the file to its name."""
        self.world.lead(lambda: str(self.partial.replace(self._target)))
