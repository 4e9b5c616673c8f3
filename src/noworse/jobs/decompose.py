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

import torch
from torch import Tensor, nn

from noworse.allocate.search import Bisection, Predictor, look, within
from noworse.errors import BadInput, CorruptFile, MismatchedModule
from noworse.format import File, write
from noworse.format.source import destination
from noworse.io import Lossless, load_file
from noworse.jobs.job import DEFAULTS, STANDARD, Job, run_of, seeded
from noworse.jobs.progress import show_progress
from noworse.jobs.report import Judged
from noworse.judge.verdict import Verdict
from noworse.model.factorised import DENSE, TUCKER, WAYS, Factorised, copied, factorised, product, replace, replaceable
from noworse.model.load import load_model
from noworse.model.tensors import check_float32, matching, twin
from noworse.model.wrapped import require_numbers, unwrapped
from noworse.propose.ranks.build import Filter, open_fused
from noworse.propose.ranks.factoring import Chosen, Factoring, dropped
from noworse.run.named import DEFAULT
from noworse.survey.capture import count_flops
from noworse.survey.subject import AT_A_TIME, Subject
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.task import Task
from noworse.tune.options import Options
from noworse.tune.progress import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from noworse.task.task import Extras

HELD_BACK = 0.2  # of calib: where bounds are predicted
BISECTIONS = 10
CHEAP, DEAR = -40.0, 5.0  # ln of the price of a parameter between which the search goes
MEMORISED = 0.5  # of the tolerance is used on calib: nets lose less on images that they were trained on
BACK_OFF = 0.5  # of what may be lost on calib, after a look that failed


@dataclass(frozen=True)
class Decomposition(Judged):
    """The outcome of a decomposition: a module of fewer parameters, the verdict on it, and what was done."""

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
    def drop(self) -> float:
        """Share of the model's parameters that is gone."""
        return 1 - self.parameters[1] / self.parameters[0]

    @property
    def layer_drop(self) -> float:
        """Share of the parameters of the weights that were looked at that is gone."""
        return 1 - self.decomposable[1] / self.decomposable[0]

    @property
    def factors(self) -> dict[str, list[Any]]:
        """How each layer that was replaced is taken apart ("flat", "spatial", "tucker"), and its ranks."""
        return {name: [candidate.way, *candidate.ranks] for name, candidate in self.chosen.items()}

    def save(self, path: str | Path) -> int:
        """Write the module's tensors bit for bit, and which layers are factors, to a .nwt file; return its bytes."""
        settings = {**self.settings, "method": "decompose", "factors": self.factors}
        return write(path, Lossless(self.module.state_dict()), settings, self.verdict.record(), coder="auto")

    def to_json(self) -> str:
        """Return all but the module as one JSON object."""
        told = {"chosen": self.factors, "left_alone": self.alone, "parameters": self.parameters, "drop": self.drop}
        told |= {"decomposable": self.decomposable, "flops": self.flops, "verdict": asdict(self.verdict)}
        return json.dumps({**told, "samples": self.samples, "seconds": self.seconds, "settings": self.settings})

    def __str__(self) -> str:
        ranks = ", ".join(f"{n}: {'x'.join(map(str, ranks))} ({way})" for n, (way, *ranks) in self.factors.items())
        lines = [
            f"{self.parameters[1]:,} of {self.parameters[0]:,} parameters ({100 * self.drop:.1f} % dropped), "
            f"{self.flops[1]:,} of {self.flops[0]:,} operations per sample ({self.seconds:.0f} s)",
            f"ranks: {ranks or 'none'}",
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
    only: Filter | Iterable[str] | None = None,
    tolerance: float | str | None = STANDARD,
    options: Options | None = None,
    preset: str = DEFAULT,
    seed: int | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
    device: str | torch.device | None = None,
    **extras: Unpack[Extras],
) -> Decomposition:
    """Return a copy of ``model`` whose layers are low-rank factors of as few parameters as ``tolerance`` allows.

    Arguments are those of ``noworse.compress``. With ``drop`` that share (0 to 1) of the parameters of decomposable
    weights is removed at the least predicted loss instead. ``only``: patterns of the names of layers that may be
    touched, such as ["blocks.*"], or a function of name and layer. ``out`` is a .nwt file to save the result to.
    ``preset`` is "default", "paper" (LLC as published: linear layers, first order; calib needs its labels), or another
    weighting of errors: "svd", "fwsvd", "asvd", "svd-llm". Of ``options`` the seed, the confidence and the looks count.

    Raises BadInput for what cannot be used; TargetMissed (with the best result as its report) where ``tolerance`` is
    not met, unless that is None.
    """
    task = Task(model=model, loss=loss, calib=calib, verify=verify, **extras)
    asked: dict[str, Any] = {"drop": drop, "only": only, "tolerance": tolerance, "options": options}
    return decompose_task(task, out, **asked, preset=preset, seed=seed, work=work, progress=progress, device=device)


def decompose_task(
    task: Task,
    out: str | os.PathLike[str] | None = None,
    *,
    drop: float | None = None,
    only: Filter | Iterable[str] | None = None,
    tolerance: float | str | None = STANDARD,
    options: Options | None = None,
    preset: str = DEFAULT,
    seed: int | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
    device: str | torch.device | None = None,
) -> Decomposition:
    """Decompose the model of a task, as ``decompose`` does."""
    if drop is not None and not (isinstance(drop, (int, float)) and 0 < drop < 1):
        raise BadInput(f"drop is {drop!r}: expected a share of the parameters between 0 and 1")
    if out is not None:
        destination(out)
    check_float32(task.model)
    with run_of(task, tolerance, seeded(options or DEFAULTS, seed), progress, device) as job:
        factoring = _factoring(Subject(job.task, job.calib, HELD_BACK, job.options.seed), only, preset)
        asked = {"verb": "decompose", "drop": drop, "preset": preset, "only": sorted(factoring.sizes)}
        job.begin(work, {**asked, "options": job.options.to_json()})
        factoring.subject.work = job.work
        return job.finish(story(job, factoring, drop), out, Decomposition.save)


def _factoring(subject: Subject, only: Filter | Iterable[str] | None, preset: str) -> Factoring:
    """Survey the layers that ``only`` accepts, or has patterns of, and whose tensors are not to be kept."""
    open_fused(subject.teacher)
    names = [name for name, layer in subject.teacher.named_modules() if isinstance(layer, DENSE)]
    wanted = set(names if only is None or callable(only) else matching(only, names, "no layer for only"))

    def sources(name: str) -> set[str]:  # of layers that were opened too: what the caller's tensors are called
        owner, _, own = name.rpartition(".")
        return {f"{name}.weight", f"{owner}.in_proj_weight", f"{owner}.weight_{own}"}

    kept = {name for name in wanted if not sources(name).isdisjoint(subject.kept)}

    def accepts(name: str, layer: nn.Module) -> bool:
        return name in wanted - kept and (not callable(only) or only(name, layer))

    factoring = Factoring(subject, accepts, preset)
    factoring.sites.alone.update(dict.fromkeys(sorted(kept), "it is kept"))
    return factoring


def story(job: Job, factoring: Factoring, drop: float | None = None) -> Decomposition:
    """Decompose a surveyed model, which may be used again: what it has measured it keeps."""
    begin, by_itself = time.monotonic(), factoring.method.search is not None
    if drop is not None and by_itself:
        expected = "which stops where the loss says: expected one of them"
        raise BadInput(f"drop was given with the preset {factoring.preset!r}, {expected}")
    looks = job.options.looks if drop is None and not by_itself else 1
    job.tell("curvature of layers and the loss of every rank")

    def choice(number: int) -> tuple[nn.Module, Chosen]:
        if by_itself:
            return factoring.by_itself()
        if drop is not None:
            return factoring.at_drop(drop)
        return _search(job, factoring, MEMORISED * job.limit * BACK_OFF ** (number - 1))

    def modules() -> Iterator[tuple[int, tuple[nn.Module, Chosen, nn.Module]]]:
        for number in range(1, looks + 1):
            trial, chosen = choice(number)
            yield number, (trial, chosen, finished(job.task.model, trial, chosen))

    (trial, chosen, module), verdict = look(modules(), lambda made, number: job.judge(made[2], number, looks), looks)
    settings = {"preset": factoring.preset, "tolerance": str(job.tolerance), "drop": drop, "seed": job.options.seed}
    before, after = sum(factoring.sizes.values()), dropped(chosen, factoring.sizes)
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

    def bound() -> float:
        name = f"bound at price {line.at!r}"
        return job.work.number(name, lambda: predictor.bound(factoring.build(trials[line.at])))

    within(line, attempt, bound, limit, BISECTIONS)
    if line.best is None or not trials[line.best]:
        return factoring.build({}), {}
    return factoring.nearest(dropped(trials[line.best], factoring.sizes))


def _flops(subject: Subject, module: nn.Module) -> int:
    batch = next(subject.samples(AT_A_TIME))
    return count_flops(module, lambda m: subject.forward(m, batch), data.batch_size(batch))


def finished(model: nn.Module, trial: nn.Module, chosen: Chosen) -> nn.Module:
    """Return a copy of the caller's model, in its own dtype and mode, with the factors of ``trial``."""
    module = twin(model)
    open_fused(module, chosen)
    for name in chosen:
        old: Any = module.get_submodule(name)
        replace(module, old, copied(trial.get_submodule(name), old))
    return module


def load_decomposed(module: nn.Module, path: str | Path, device: object = None) -> nn.Module:
    """Load a file of ``Decomposition.save`` into ``module``, in place, and return it: layers become factors first.

    The module is moved to ``device`` where one is given. MismatchedModule where the file's factors are not of layers of
    this module, CorruptFile for a damaged file.
    """
    with File(path) as file:
        ways = file.settings.get("factors", {})
    lists = isinstance(ways, dict) and all(isinstance(way, list) and way and way[0] in WAYS for way in ways.values())
    if not lists:
        raise CorruptFile(f"{path} has factors {ways!r}: expected a list for each layer, of one of {', '.join(WAYS)}")
    require_numbers(module, "the module to load into")
    tensors, inner = load_file(path), unwrapped(module)
    open_fused(inner, ways)
    for name, (way, *_) in ways.items():
        parts = [tensors[key] for i in range(3) if (key := f"{name}.{i}.weight") in tensors]
        try:
            layer = inner.get_submodule(name)
            replace(inner, layer, _in_factors(layer, way, parts))
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise MismatchedModule(f"{path} has factors of {name!r}, which the module cannot have: {error}") from error
    return load_model(module, path, device=device)


def _in_factors(layer: nn.Module, way: str, parts: list[Tensor]) -> Factorised:
    """Return what stands for a layer; an error, of whatever type, where these factors cannot."""
    reason = replaceable(layer)
    if reason:
        raise TypeError(reason)
    factors = [parts[0], parts[1].T] if isinstance(layer, nn.Embedding) else parts[::-1]
    flat = [factor.to("meta") for factor in factors]
    shape = (flat[0] @ flat[1]).shape if isinstance(layer, nn.Embedding) else product(way, flat).shape
    expected: Any = layer.weight
    if shape != expected.shape or len(parts) != (3 if way == TUCKER else 2):
        found = " x ".join(str(tuple(part.shape)) for part in parts)
        raise ValueError(f"factors of shapes {found} make {tuple(shape)}, expected {tuple(expected.shape)}")
    return factorised(layer, way, factors)
