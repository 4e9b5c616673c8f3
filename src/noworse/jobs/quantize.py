"""Mixed-precision quantisation of weights and activations, without training: bits per layer, chosen by an allocation.

``calib`` proposes and chooses: each weight at several bit-widths, what each costs alone and in pairs, and on a part
that is held back how few bits the tolerance allows. ``verify`` judges. Source: LLC (2024), part 2. Page:
docs/quantize.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.format import File, write
from noworse.io import Lossless, load_model
from noworse.jobs.bit_search import CONFIDENCE, LOOKS, LayerBits, Search
from noworse.judge.original import Original
from noworse.judge.verdict import Verdict, parse_tolerance
from noworse.judge.verify import verify_module
from noworse.model.quantized import activation_ranges, attach, from_settings, to_settings
from noworse.propose.bits.costs import COSTS
from noworse.propose.bits.proposals import FULL, Proposal
from noworse.propose.strategies import BITS, DEFAULT, strategy
from noworse.representation import Representation
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.task import Task

ACTIVATION_BITS = 8

Bits = float | Mapping[str, int]


@dataclass(frozen=True)
class Quantization:
    """What ``quantize`` returns: a float32 module that computes as the integers would, the verdict, what was done."""

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
        """Write weights as integer codes and activation ranges to a .nwt file; returns its bytes."""
        items: dict[str, Representation] = {}
        lossless = Lossless(self.module.state_dict())
        codes = {p.name: p.representation for p in self.proposals}
        for name in lossless:
            items[name] = codes.get(name) or lossless[name]
        settings = {**self.settings, "activations": to_settings(activation_ranges(self.module))}
        return write(path, items, settings, self.verdict.record(), coder="auto")

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
    bits: Bits | None = None,
    activations: bool | int = True,
    tolerance: float | str = "1%",
    preset: str = DEFAULT,
    **extras: Any,
) -> Quantization:
    """A copy of ``model`` whose weights and layer inputs are rounded to integers of few bits, as few as pass the test.

    Arguments are those of ``noworse.compress``. ``bits``: at most so many per weight on average, or a mapping from
    layer names to bits; None: as few as ``tolerance`` allows. ``activations``: True (8 bits), False, or bits.
    ``preset`` is "default", or "paper" (LLC as published: weights and inputs share their bits, calib needs its labels).
    Batch norms are folded. The verdict says whether the module is no worse; it is returned either way. Raises BadInput
    for what cannot be used, and for ``bits`` below the smallest choice.
    """
    task = Task(model=model, loss=loss, calib=calib, verify=verify, **extras)
    return quantize_task(task, bits=bits, activations=activations, tolerance=tolerance, preset=preset)


def quantize_task(
    task: Task,
    *,
    bits: Bits | None = None,
    activations: bool | int = True,
    tolerance: float | str = "1%",
    preset: str = DEFAULT,
    cost: str = "loss",
    seed: int = 0,
) -> Quantization:
    """``quantize`` for a Task; ``cost`` other than "loss" ("mse", "trace", "fisher") allocates as others do."""
    strategy(BITS, preset, "quantize")
    if cost not in COSTS:
        raise BadInput(f"unknown cost {cost!r}: expected one of {', '.join(COSTS)}")
    calib, held_out = data.disjoint(task.calib, task.verify)
    begin = time.monotonic()
    search = Search(task, calib, _activation_bits(activations), preset, cost, seed)
    found = run(search, held_out, bits, tolerance)
    return replace(found, seconds=time.monotonic() - begin)


def run(search: Search, held_out: list[Batch], bits: Bits | None, tolerance: float | str) -> Quantization:
    """``quantize`` for a search, which may be used again: what it has measured it keeps."""
    begin, task = time.monotonic(), search.task
    original = Original(task, held_out)
    limit = parse_tolerance(tolerance, original.mean_loss)
    choices: Iterator[list[Proposal]]
    if bits is None:
        choices = search.within(limit, sum(map(data.batch_size, held_out)))
    else:
        choices = iter([search.fixed(bits) if isinstance(bits, Mapping) else search.at(bits)])
    looks = LOOKS if bits is None else 1
    for look, chosen in enumerate(choices, 1):
        module = search.build(chosen)
        verdict = verify_module(module, original, tolerance=limit, look=look, looks=looks, confidence=CONFIDENCE)
        if verdict.passed or look == LOOKS:
            break
    settings: dict[str, Any] = {"method": "quantize", "preset": search.preset, "cost": search.cost}
    asked = dict(bits) if isinstance(bits, Mapping) else bits
    settings |= {"tolerance": str(tolerance), "seed": search.seed, "bits": asked}
    return Quantization(
        module, verdict, search.table(chosen), search.survey.alone, chosen, sum(map(data.batch_size, search.calib)),
        time.monotonic() - begin, settings,
    )  # fmt: skip


def load_quantized(module: nn.Module, path: str | Path) -> nn.Module:
    """Load a file of ``Quantization.save`` into ``module``, in place: weights, and hooks that round layer inputs."""
    with File(path) as file:
        ranges = from_settings(file.settings.get("activations", {}))
    return attach(load_model(module, path).eval(), ranges)


def _activation_bits(activations: bool | int) -> int | None:
    if isinstance(activations, bool):
        return ACTIVATION_BITS if activations else None
    if not isinstance(activations, int) or not 2 <= activations <= 16:
        raise BadInput(f"activations is {activations!r}: expected True, False, or 2 to 16 bits")
    return activations
