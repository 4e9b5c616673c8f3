"""The story of a low-rank decomposition without training: survey -> propose -> allocate -> build -> write -> judge.

``calib`` chooses the ranks: curvature scores all of them, then outputs on a part of it that curvature does not see tell
how far to go. ``verify`` judges what comes out. Source: LLC (2024), part 3; see docs/lowrank.md.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from noworse.allocate.predict import Predictor
from noworse.allocate.search import Bisection, look, within
from noworse.errors import BadInput, MismatchedModule
from noworse.format import File, write
from noworse.io import Lossless, load_file, load_model
from noworse.jobs.job import STANDARD, Job, run_of
from noworse.jobs.progress import show_progress
from noworse.judge.verdict import Verdict
from noworse.model.attention import Attention, openable
from noworse.model.factorised import copied, factorised, replace
from noworse.model.tensors import twin
from noworse.propose.ranks import choose
from noworse.propose.ranks.factoring import Chosen, Factoring
from noworse.propose.ranks.sites import Filter
from noworse.run.named import DEFAULT
from noworse.survey.flops import count_flops
from noworse.survey.subject import AT_A_TIME, Subject
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.task import Task
from noworse.tune.options import Options
from noworse.tune.tuner import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from noworse.task.task import Extras

HELD_BACK = 0.2  # of calib: where bounds are predicted
BISECTIONS = 10
CHEAP, DEAR = -40.0, 5.0  # ln of the price of a parameter between which the search goes
MEMORISED = 0.5  # of the tolerance is used on calib: nets lose less on images that they were trained on
BACK_OFF = 0.5  # of what may be lost on calib, after a look that failed


@dataclass(frozen=True)
class Decomposition:
    """What ``decompose`` returns: the module, the verdict on it, and what was done."""

    module: nn.Module
    verdict: Verdict
    chosen: Chosen
    alone: dict[str, str]  # layers that cannot be decomposed, and why
    parameters: tuple[int, int]  # of the whole model, before and after
    decomposable: tuple[int, int]  # of the weights that were looked at, before and after
    flops: tuple[int, int]  # per sample of all linear and convolutional layers
    samples: int  # of calib
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the module is no worse within the tolerance, or better."""
        return self.verdict.passed

    @property
    def drop(self) -> float:
        """Share of the model's parameters that is gone."""
        return 1 - self.parameters[1] / self.parameters[0]

    @property
    def layer_drop(self) -> float:
        """Share of the parameters of the weights that were looked at that is gone."""
        return 1 - self.decomposable[1] / self.decomposable[0]

    def save(self, path: str | Path) -> int:
        """Write the module's tensors bit for bit, and which layers are factors, to a .nwt file; return its bytes."""
        ways = {name: [candidate.way, *candidate.ranks] for name, candidate in self.chosen.items()}
        settings = {**self.settings, "method": "decompose", "factors": ways}
        return write(path, Lossless(self.module.state_dict()), settings, self.verdict.record(), coder="auto")

    def to_json(self) -> str:
        """Return all but the module as one JSON object."""
        told = {"chosen": {name: [c.way, *c.ranks] for name, c in self.chosen.items()}, "left_alone": self.alone}
        told |= {"parameters": self.parameters, "decomposable": self.decomposable, "flops": self.flops}
        told |= {"verdict": asdict(self.verdict), "samples": self.samples, "seconds": self.seconds}
        return json.dumps({**told, "drop": self.drop, "settings": self.settings})

    def __str__(self) -> str:
        ranks = ", ".join(f"{n}: {'x'.join(map(str, c.ranks))} ({c.way})" for n, c in self.chosen.items()) or "none"
        lines = [
            f"{self.parameters[1]:,} of {self.parameters[0]:,} parameters ({100 * self.drop:.1f} % dropped), "
            f"{self.flops[1]:,} of {self.flops[0]:,} operations per sample ({self.seconds:.0f} s)",
            f"ranks: {ranks}",
        ]
        lines += [f"left alone: {name}, {reason}" for name, reason in self.alone.items()]
        return "\n".join([*lines, str(self.verdict)])


def decompose(
    model: nn.Module,
    *,
    loss: Callable[[nn.Module, Batch], Tensor],
    calib: Iterable[Batch],
    verify: Iterable[Batch],
    out: str | os.PathLike[str] | None = None,
    drop: float | None = None,
    only: Filter | None = None,
    tolerance: float | str | None = STANDARD,
    options: Options | None = None,
    preset: str = DEFAULT,
    seed: int | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
    **extras: Unpack[Extras],
) -> Decomposition:
    """Return a copy of ``model`` whose layers are low-rank factors of as few parameters as ``tolerance`` allows.

    Arguments are those of ``noworse.compress``. With ``drop`` that share (0 to 1) of the parameters of decomposable
    weights is removed at the least predicted loss instead. ``only(name, layer)`` tells which layers may be touched.
    ``out`` is a .nwt file to save it to. ``preset`` is "default", "paper" (LLC as published: linear layers, first
    order; calib needs its labels), or another weighting of errors: "svd", "fwsvd", "asvd", "svd-llm". Of ``options``
    the seed, the confidence and the looks count.

    Raises BadInput for what cannot be used; TargetMissed (with the best result as its report) where ``tolerance`` is
    not met, unless that is None.
    """
    task = Task(model=model, loss=loss, calib=calib, verify=verify, **extras)
    asked: dict[str, Any] = {"drop": drop, "only": only, "tolerance": tolerance, "options": options}
    return decompose_task(task, out, **asked, preset=preset, seed=seed, work=work, progress=progress)


def decompose_task(
    task: Task,
    out: str | os.PathLike[str] | None = None,
    *,
    drop: float | None = None,
    only: Filter | None = None,
    tolerance: float | str | None = STANDARD,
    options: Options | None = None,
    preset: str = DEFAULT,
    seed: int | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
) -> Decomposition:
    """Decompose the model of a task, as ``decompose`` does."""
    if drop is not None and not (isinstance(drop, (int, float)) and 0 < drop < 1):
        raise BadInput(f"drop is {drop!r}: expected a share of the parameters between 0 and 1")
    with run_of(task, tolerance, options, seed, progress) as job:
        job.begin(work, {"verb": "decompose", "drop": drop, "preset": preset, "options": job.options.to_json()})
        factoring = Factoring(Subject(task, job.calib, HELD_BACK, job.options.seed), only, preset)
        return job.finish(story(job, factoring, drop), out, Decomposition.save)


def story(job: Job, factoring: Factoring, drop: float | None = None) -> Decomposition:
    """Decompose a surveyed model, which may be used again: what it has measured it keeps."""
    begin, by_itself = time.monotonic(), factoring.method.search is not None
    if drop is not None and by_itself:
        expected = "which stops where the loss says: expected one of them"
        raise BadInput(f"drop was given with the preset {factoring.preset!r}, {expected}")
    looks = job.options.looks if drop is None and not by_itself else 1
    job.tell("curvature of layers and the loss of every rank")
    if by_itself:
        results: Iterator[tuple[nn.Module, Chosen]] = iter([factoring.by_itself()])
    elif drop is not None:
        results = iter([factoring.at_drop(drop)])
    else:
        results = (_search(job, factoring, MEMORISED * job.limit * BACK_OFF**number) for number in range(looks))

    def modules() -> Iterator[tuple[int, tuple[nn.Module, Chosen, nn.Module]]]:
        for number, (trial, chosen) in enumerate(results, 1):
            yield number, (trial, chosen, finished(job.task.model, trial, chosen))

    (trial, chosen, module), verdict = look(modules(), lambda made, number: job.judge(made[2], number, looks), looks)
    settings = {"preset": factoring.preset, "tolerance": str(job.tolerance), "drop": drop, "seed": job.options.seed}
    before, after = sum(factoring.sizes.values()), choose.dropped(chosen, factoring.sizes)
    parameters = [sum(p.numel() for p in m.parameters()) for m in (job.task.model, module)]
    flops = _flops(factoring.subject, factoring.teacher), _flops(factoring.subject, trial)
    return Decomposition(
        module, verdict, chosen, factoring.sites.alone, (parameters[0], parameters[1]), (before, before - after), flops,
        job.calib_samples, time.monotonic() - begin, settings,
    )  # fmt: skip


def _search(job: Job, factoring: Factoring, limit: float) -> tuple[nn.Module, Chosen]:
    """As few parameters as keep the predicted bound within ``limit``."""
    predictor = Predictor(factoring.subject, job.samples, job.confidence, job.options.looks)
    line, trials = Bisection(DEAR, CHEAP), dict[float, Chosen]()

    def attempt(price: float, number: int) -> None:
        job.tell(f"search {number}/{BISECTIONS}")
        trials[price] = factoring.at_price(price)

    within(line, attempt, lambda: predictor.bound(factoring.build(trials[line.at])), limit, BISECTIONS)
    if line.best is None or not trials[line.best]:
        return factoring.build({}), {}
    return factoring.nearest(choose.dropped(trials[line.best], factoring.sizes))


def _flops(subject: Subject, module: nn.Module) -> int:
    batch = next(subject.samples(AT_A_TIME))
    return count_flops(module, lambda m: subject.forward(m, batch), data.batch_size(batch))


def finished(model: nn.Module, trial: nn.Module, chosen: Chosen) -> nn.Module:
    """Return a copy of the caller's model, in its own dtype and mode, with the factors of ``trial``."""
    module = twin(model)
    _open(module, chosen)
    for name in chosen:
        old: Any = module.get_submodule(name)
        replace(module, old, copied(trial.get_submodule(name), old))
    return module


def _open(module: nn.Module, names: Iterable[str]) -> None:
    """Give multi-head attention layers that hold any of these layers projections of their own."""
    for name, layer in list(module.named_modules()):
        if openable(layer) and any(other.startswith(f"{name}.") for other in names):
            assert isinstance(layer, nn.MultiheadAttention)
            replace(module, layer, Attention(layer))


def load_decomposed(module: nn.Module, path: str | Path) -> nn.Module:
    """Load a file of ``Decomposition.save`` into ``module``, in place: layers become factors, then all is loaded.

    MismatchedModule where the file's factors are not of layers of this module.
    """
    with File(path) as file:
        ways = file.settings.get("factors", {})
    tensors = load_file(path)
    _open(module, ways)
    for name, (way, *_) in ways.items():
        parts = [tensors[key] for i in range(3) if (key := f"{name}.{i}.weight") in tensors]
        try:
            layer = module.get_submodule(name)
            table = isinstance(layer, nn.Embedding)
            replace(module, layer, factorised(layer, way, [parts[0], parts[1].T] if table else parts[::-1]))
        except (AttributeError, AssertionError, IndexError, RuntimeError, TypeError) as error:
            raise MismatchedModule(f"{path} has factors of {name!r}, which the module cannot have: {error}") from error
    return load_model(module, path)
