"""The story of a quantisation without training: survey -> propose -> allocate -> round -> write -> judge.

``calib`` proposes and chooses: each weight at several bit-widths, what each costs alone and in pairs, and on a part
that is held back how few bits the tolerance allows. ``verify`` judges. Source: LLC (2024), part 2. Page:
docs/quantize.md.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noworse.allocate.knapsack import allocate
from noworse.allocate.search import Bisection, Predictor, look, within
from noworse.errors import BadInput
from noworse.format import File, write
from noworse.format.source import destination
from noworse.io import Lossless
from noworse.jobs.job import DEFAULTS, STANDARD, Job, run_of, seeded
from noworse.jobs.progress import show_progress
from noworse.jobs.report import Judged
from noworse.judge.verdict import Verdict
from noworse.model.load import load_model
from noworse.model.quantized import activation_ranges, add_rounding, from_settings, to_settings
from noworse.model.tensors import check_float32
from noworse.model.wrapped import unwrapped
from noworse.propose.bits.priced import Bits, LayerBits, Priced
from noworse.propose.bits.proposals import FULL, TRUE, Proposal
from noworse.representation import Representation
from noworse.run.named import DEFAULT
from noworse.survey.subject import Subject
from noworse.task.data import Batch
from noworse.task.task import Task
from noworse.tune.options import Options
from noworse.tune.progress import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from noworse.task.task import Extras

ACTIVATION_BITS = 8
HELD_BACK = 0.25  # of calib: where costs are measured and bounds predicted
BISECTIONS = 9
MARGIN = 0.7  # of the tolerance is used on calib
BACK_OFF = 0.05  # of all bits that a look that failed adds


@dataclass(frozen=True)
class Quantization(Judged):
    """The outcome of a quantisation: a float32 module that computes as integers would, the verdict, what was done."""

    module: nn.Module
    verdict: Verdict
    table: list[LayerBits]
    alone: dict[str, str]  # weights that are not quantised, and why
    proposals: list[Proposal]  # the chosen ones
    samples: int  # of calib
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def mean_bits(self) -> float:
        """Bits of a weight on average over all layers that can be quantised."""
        return sum(row.weights * row.count for row in self.table) / sum(row.count for row in self.table)

    @property
    def drop(self) -> float:
        """Share of the bits of these weights that is gone, 1 − mean bits / 32 (LLC's drop-rate)."""
        return 1 - self.mean_bits / FULL

    def save(self, path: str | Path) -> int:
        """Write weights as integer codes and activation ranges to a .nwt file, and return its bytes."""
        lossless = Lossless(self.module.state_dict())
        codes = {p.name: p.representation for p in self.proposals}
        items: dict[str, Representation] = {name: codes.get(name) or lossless[name] for name in lossless}
        settings = {**self.settings, "activations": to_settings(activation_ranges(self.module))}
        return write(path, items, settings, self.verdict.record(), coder="auto")

    def to_json(self) -> str:
        """Return all but the module and its codes as one JSON object."""
        table = [asdict(row) | {"cost": None if math.isnan(row.cost) else row.cost} for row in self.table]
        told = {"mean_bits": self.mean_bits, "table": table, "left_alone": self.alone}
        told |= {"verdict": asdict(self.verdict), "samples": self.samples, "seconds": self.seconds}
        return json.dumps({**told, "settings": self.settings})

    def __str__(self) -> str:
        lines = [f"{self.mean_bits:.2f} bits per weight, {100 * self.drop:.1f} % dropped ({self.seconds:.0f} s)"]
        for row in self.table:
            inputs = "as they are" if row.activations is None else f"{row.activations} bits"
            weights = f"{row.weights:2} bits" if row.weights < FULL else "as they are"
            lines.append(f"  {row.name}: weights {weights} ({row.rounding}), inputs {inputs}, loss {row.cost:+.2g}")
        lines += [f"left alone: {name}, {reason}" for name, reason in self.alone.items()]
        return "\n".join([*lines, str(self.verdict)])


def quantize(
    model: nn.Module,
    *,
    loss: Callable[[nn.Module, Batch], Tensor],
    calib: Iterable[Batch],
    verify: Iterable[Batch],
    out: str | os.PathLike[str] | None = None,
    bits: Bits | None = None,
    activations: bool | int = True,
    tolerance: float | str | None = STANDARD,
    options: Options | None = None,
    preset: str = DEFAULT,
    seed: int | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
    device: str | torch.device | None = None,
    **extras: Unpack[Extras],
) -> Quantization:
    """Return a copy of ``model`` whose weights and layer inputs are rounded to integers of few bits, and the verdict.

    Arguments are those of ``noworse.compress``. ``bits``: at most so many per weight on average, or a mapping from
    layer names to bits; None: as few as ``tolerance`` allows. ``activations``: True (8 bits), False, or bits. ``out``
    is a .nwt file to save it to. ``preset`` is "default", or "paper" (LLC as published: weights and inputs share their
    bits, calib needs its labels). Of ``options`` the seed, the confidence and the looks count. Batch norms are folded.

    Raises BadInput for what cannot be used, and for ``bits`` below the smallest choice; TargetMissed (with the best
    result as its report) where ``tolerance`` is not met, unless that is None.
    """
    task = Task(model=model, loss=loss, calib=calib, verify=verify, **extras)
    asked: dict[str, Any] = {"bits": bits, "activations": activations, "tolerance": tolerance, "options": options}
    return quantize_task(task, out, **asked, preset=preset, seed=seed, work=work, progress=progress, device=device)


def quantize_task(
    task: Task,
    out: str | os.PathLike[str] | None = None,
    *,
    bits: Bits | None = None,
    activations: bool | int = True,
    tolerance: float | str | None = STANDARD,
    options: Options | None = None,
    preset: str = DEFAULT,
    cost: str = TRUE,
    seed: int | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
    device: str | torch.device | None = None,
) -> Quantization:
    """Quantise the model of a task, as ``quantize`` does; ``cost``: "loss", or as others allocate, see ``COSTS``."""
    rounded = _activation_bits(activations)
    if out is not None:
        destination(out)
    check_float32(task.model)
    with run_of(task, tolerance, seeded(options or DEFAULTS, seed), progress, device) as job:
        asked = {"verb": "quantize", "bits": bits, "activations": rounded, "preset": preset, "cost": cost}
        job.begin(work, {**asked, "options": job.options.to_json()})
        subject = Subject(job.task, job.calib, HELD_BACK, job.options.seed)
        subject.work = job.work
        return job.finish(story(job, Priced(subject, rounded, preset, cost), bits), out, Quantization.save)


def story(job: Job, net: Priced, bits: Bits | None = None) -> Quantization:
    """Quantise a surveyed net, which may be used again: what it has measured it keeps."""
    begin, looks = time.monotonic(), job.options.looks if bits is None else 1
    job.tell("propose bits and measure what they cost")

    def modules() -> Iterator[tuple[int, tuple[list[Proposal], nn.Module]]]:
        choices = _search(job, net) if bits is None else [net.asked(bits)]  # allocate
        for number, chosen in enumerate(choices, 1):
            yield number, (chosen, net.build(chosen))  # round weights and inputs, correct biases

    (chosen, module), verdict = look(modules(), lambda made, number: job.judge(made[1], number, looks), looks)
    settings: dict[str, Any] = {"method": "quantize", "preset": net.preset, "cost": net.cost}
    asked = dict(bits) if isinstance(bits, Mapping) else bits
    settings |= {"tolerance": str(job.tolerance), "seed": net.subject.seed, "bits": asked}
    table, alone, seconds = net.table(chosen), net.survey.alone, time.monotonic() - begin
    return Quantization(module, verdict, table, alone, chosen, job.calib_samples, seconds, settings)


def _search(job: Job, net: Priced) -> Iterator[list[Proposal]]:
    """The smallest allocation whose predicted bound stays within the tolerance, then larger ones."""
    predictor = Predictor(net.subject, job.samples, job.confidence, job.options.looks)
    count, choices = net.count, net.choices
    line = Bisection(sum(min(row) for row in choices.sizes) / count, float(FULL), geometric=True)
    trials: dict[float, list[int]] = {}

    def attempt(mean: float, number: int) -> None:
        job.tell(f"search {number}/{BISECTIONS}")
        trials[mean] = allocate(choices, mean * count)

    def bound() -> float:
        name = f"bound at {line.at!r} bits"
        return job.work.number(name, lambda: predictor.bound(net.build(net.pick(trials[line.at]))))

    within(line, attempt, bound, MARGIN * job.limit, BISECTIONS)
    best = [len(row) - 1 for row in net.proposals] if line.best is None else trials[line.best]
    best = net.settled(choices.size(best))
    yield net.pick(best)
    yield from map(net.pick, net.larger(best, BACK_OFF))


def load_quantized(module: nn.Module, path: str | Path, device: object = None) -> nn.Module:
    """Load a file of ``Quantization.save`` into ``module``, in place, and return it, with hooks that round inputs.

    The module is moved to ``device`` where one is given.
    """
    with File(path) as file:
        ranges = from_settings(file.settings.get("activations", {}))
    inner = add_rounding(unwrapped(load_model(module, path, device=device).eval()), ranges)
    if inner is not module:
        torch.compiler.reset()  # what was compiled for modules of this class knows nothing of the hooks
    return module


def _activation_bits(activations: bool | int) -> int | None:
    if isinstance(activations, bool):
        return ACTIVATION_BITS if activations else None
    if not isinstance(activations, int) or not 2 <= activations <= 16:
        raise BadInput(f"activations is {activations!r}: expected True, False, or 2 to 16 bits")
    return activations
