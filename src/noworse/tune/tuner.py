"""Joint tuning of weights, steps and zones by gradient: distillation loss + λ · soft entropy, at a given size."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.propose.grids.grid import GridSet
from noworse.rate.control import RateController, budget_at
from noworse.run.precision import LossScaler
from noworse.run.processes import ALONE, Ranks
from noworse.run.resume import NOWHERE, Work
from noworse.task import data
from noworse.task.data import Batch
from noworse.tune.adam import Adam
from noworse.tune.limits import BitLimits
from noworse.tune.objective import Objective, Seen
from noworse.tune.options import Options
from noworse.tune.sampling import Sampler

SHARED = 1 << 21  # weights from which on they share memory with their gradients: less speed for less memory
MEASURE_EVERY = 25  # iterations between measurements of the whole file
FINAL_RATE, FINAL_GRID_RATE = 0.02, 0.1  # of the learning rates of weights, and of steps and zones, after the cosine
FEEDBACK, STEADY = 0.05, 0.85  # of ln(size/budget) on ln s in each iteration, up to this share of the iterations
COMPENSATED, NEAREST = (1.0, 1.0, 1.0), (3.5, 30.0, 20.0)  # learning rates after a start, times those of the options
# most further iterations until the size is right (also as a multiple of those before), and their learning rates
SETTLE, SETTLE_SHARE, SETTLE_RATE = 200, 10, 0.1


@dataclass(frozen=True)
class Step:
    """One line of progress: what stage, how far, bytes now and wanted, and the loss of the last iterations."""

    stage: str
    iteration: int
    iterations: int
    size: float  # bytes
    budget: float  # bytes
    loss: float  # distillation loss, running mean
    seconds_left: float


Progress = Callable[[Step], None]


@dataclass(frozen=True)
class Hooks:
    """What tuning needs from outside, as functions.

    ``teach(batch, outputs)`` gives this rank's share of the batch to train on (augmented, where asked for) and what the
    original makes of it, of which ``outputs`` may be known; ``measure()`` the bytes of the file that would be written
    now.
    """

    teach: Callable[[Batch, Tensor | None], tuple[Batch, Seen]]
    measure: Callable[[], int]
    progress: Progress
    ranks: Ranks = ALONE
    work: Work = NOWHERE


def attach(student: nn.Module, grids: GridSet, given: set[int] | None = None) -> tuple[Tensor, Tensor]:
    """Make the grid tensors of ``student`` views of one flat vector; returns it and the flat gradient, both (N,).

    With ``given`` the two are one: each tensor gives way to its gradient when a backward pass is done with it, and its
    number is added to ``given``.
    """
    values = torch.zeros(grids.count)
    gradient = torch.zeros(grids.count) if given is None else values
    parameters = dict(student.named_parameters(remove_duplicate=False))
    homes = {_memory(parameters[spec.name]): k for k, spec in enumerate(grids.specs)}
    found = [(parameter, homes.get(_memory(parameter))) for parameter in parameters.values()]  # before any moves
    for parameter, k in {id(parameter): (parameter, k) for parameter, k in found}.values():
        parameter.requires_grad_(k is not None)
        if k is not None:
            rows = slice(grids.offsets[k], grids.offsets[k + 1])
            parameter.data = grids.specs[k].unflatten(values[rows])
            if given is None:
                parameter.grad = grids.specs[k].unflatten(gradient[rows])
            else:
                give_way = functools.partial(_give_way, given, k)
                parameter.register_post_accumulate_grad_hook(give_way)  # type: ignore[no-untyped-call]
    return values, gradient


def _give_way(given: set[int], k: int, parameter: Tensor) -> None:
    """Put the gradient of tensor k where the tensor was."""
    assert parameter.grad is not None, "hooks run after it was accumulated"
    parameter.data.copy_(parameter.grad)
    parameter.grad = None
    given.add(k)


def _may_share(student: nn.Module, grids: GridSet) -> bool:
    """Whether large weights can give way to their gradients: none may be part of the module as several parameters."""
    homes = [_memory(parameter) for parameter in student.parameters()]
    return grids.count >= SHARED and grids.remakes and len(set(homes)) == len(homes)


def _memory(tensor: Tensor) -> tuple[object, ...]:
    """What tied parameters agree in."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


class Tuner:
    """Tunes the grids of one student; ``run`` may be called several times with different budgets."""

    def __init__(
        self,
        student: nn.Module,
        grids: GridSet,
        sampler: Sampler,
        objective: Objective,
        options: Options,
        hooks: Hooks,
    ) -> None:
        self.student, self.grids, self.options = student, grids, options
        self.sampler, self.batches, self.drawn = sampler, iter(sampler), 0
        self.objective = objective
        self.hooks = hooks
        self.given: set[int] = set()  # numbers of the tensors that the last pass gave a gradient
        self.values, self.gradient = attach(student, grids, self.given if _may_share(student, grids) else None)
        self.limits = BitLimits(options.layer_bits, grids)
        self.limits.bound_steps(grids, self.values)
        groups = [{"params": [leaf], "option": option} for option, leaf in grids.leaves]
        self.optimiser = Adam(groups)
        self._set_pace(COMPENSATED)
        self.scaler = LossScaler(options.precision)
        self.controller: RateController | None = None
        self.side_bits = 0.0
        self.seconds = {"net": 0.0, "grids": 0.0}

    def reset(self, multiplier: float, pace: tuple[float, float, float] = COMPENSATED) -> None:
        """Quantise, measure the file, and start the rate controller at ``multiplier`` (loss per bit per weight).

        ``pace`` multiplies the options' learning rates of weights, steps and zones.
        """
        multiplier, *shared = self.hooks.ranks.agree([multiplier, *pace])
        self._set_pace((shared[0], shared[1], shared[2]))
        self.optimiser.state.clear()
        self.hooks.ranks.copy_(self.grids.tensors)
        self.grids.quantise(self.values)
        self._measure()
        self.controller = RateController(multiplier)

    def release(self) -> None:
        """Free the memory of weights, gradients and moments; nothing can be tuned any more."""
        self.optimiser.state.clear()
        self.optimiser.param_groups.clear()
        for parameter in self.student.parameters():
            parameter.data, parameter.grad = torch.empty(0), None
        self.values = self.gradient = self.grids.latent = torch.empty(0)

    def _set_pace(self, pace: tuple[float, float, float]) -> None:
        factors = dict(zip(("lr_weights", "lr_steps", "lr_zones"), pace, strict=True))
        for group in self.optimiser.param_groups:
            option = group["option"]
            final = FINAL_RATE if option == "lr_weights" else FINAL_GRID_RATE
            group.update(peak=getattr(self.options, option) * factors[option], final=final)

    def _measure(self) -> None:
        self.side_bits = 8 * self.hooks.measure() - float(self.grids.bits.sum())

    def bits(self) -> float:
        """Bits of the whole file now: hard codes of this iteration, all else as last measured."""
        return float(self.grids.bits.sum()) + self.side_bits

    def run(self, budget: float, iterations: int, stage: str = "tune") -> None:
        """Tune for ``iterations`` towards a file of ``budget`` bits, from the present size."""
        if self.passed(stage):
            return
        first, start, running = self._resume(stage)
        begin = time.monotonic()
        for iteration in range(first, iterations):
            loss, goal = self._turn(iteration, iterations, start, budget)
            running = loss if iteration == 0 else 0.95 * running + 0.05 * loss
            if not math.isfinite(running):
                found = f"the loss became {loss} at iteration {iteration} of {stage}"
                raise BadInput(f"{found}: expected finite outputs, or lower learning rates")
            if (iteration + 1) % MEASURE_EVERY == 0 or iteration + 1 == iterations:
                self._measure()
                left = (time.monotonic() - begin) / (iteration + 1 - first) * (iterations - iteration - 1)
                step = Step(stage, iteration + 1, iterations, self.bits() / 8, goal / 8, running, left)
                self.hooks.progress(step)
            at = {"stage": stage, "iteration": iteration + 1, "start": start, "running": running}
            self.hooks.work.offer(functools.partial(self._checkpoint, at), iteration + 1 == iterations)
        self.grids.quantise(self.values)

    def passed(self, stage: str | None = None) -> bool:
        """Whether the checkpoint that this run goes on from was made in a later stage, or in any if None."""
        position = self.hooks.work.position
        return position is not None and position["stage"] != stage

    def _optimisers(self) -> Sequence[Adam]:
        """Those whose moments a checkpoint holds."""
        return (self.optimiser,)

    def _beside(self) -> dict[str, Tensor]:
        """What is tuned and is not in the grids."""
        return {}

    def _state(self) -> dict[str, Tensor]:
        """All tensors that an iteration depends on, besides the sampler's."""
        tensors = {f"grid {k}": tensor for k, tensor in enumerate(self.grids.tensors)} | self._beside()
        for j, optimiser in enumerate(self._optimisers()):
            for k, leaf in enumerate(optimiser.leaves()):
                tensors |= {f"{name} {j}.{k}": moment for name, moment in optimiser.state.get(leaf, {}).items()}
        return {**tensors, "random": torch.get_rng_state()}

    def _checkpoint(self, at: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What is needed to go on from a position ``at`` in a stage."""
        assert self.controller is not None
        tensors = self._state()
        numbers = {"controller": vars(self.controller), "scaler": vars(self.scaler), "seconds": self.seconds}
        peaks = [group["peak"] for group in self.optimiser.param_groups]
        counts = {"drawn": self.drawn, "side_bits": self.side_bits, "peaks": peaks}
        moments = [len(optimiser.state) > 0 for optimiser in self._optimisers()]
        return tensors, {**at, **numbers, **counts, "moments": moments}

    def _resume(self, stage: str) -> tuple[int, float, float]:
        """Where a run of ``stage`` begins: iteration, bits at its start, running loss; the state is then as it was."""
        position = self.hooks.work.position
        if position is None:
            return 0, self.bits(), 0.0
        self.controller = RateController(1.0)
        vars(self.controller).update(position["controller"])
        vars(self.scaler).update(position["scaler"])
        self.seconds.update(position["seconds"])
        self.side_bits, self.drawn = position["side_bits"], position["drawn"]
        self.batches = self.sampler.after(self.drawn)
        for group, peak in zip(self.optimiser.param_groups, position["peaks"], strict=True):
            group["peak"] = peak
        for optimiser, moments in zip(self._optimisers(), position["moments"], strict=True):
            for leaf in optimiser.leaves() if moments else ():
                optimiser.begin(leaf)
        state = self._state()
        self.hooks.work.read_into(state)
        torch.set_rng_state(state["random"])
        self.grids.quantise(self.values)
        return position["iteration"], position["start"], position["running"]

    def _turn(self, iteration: int, iterations: int, start: float, budget: float) -> tuple[float, float]:
        """One iteration of a run from ``start`` to ``budget`` bits: its loss, and the bits wanted by now."""
        progress = iteration / iterations
        self._set_rates(iteration, iterations)
        goal = budget_at(progress, start, budget, self.options.ramp)
        return self._iterate(goal, progress < STEADY), goal

    def _set_rates(self, iteration: int, iterations: int) -> None:
        warm = min(1.0, (iteration + 1) / max(self.options.warm_up, 1))
        cosine = 0.5 * (1 + math.cos(math.pi * iteration / iterations))
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * warm * (group["final"] + (1 - group["final"]) * cosine)

    def settle(self, low: float, high: float) -> bool:
        """Go on at small learning rates until the file has ``low`` to ``high`` bytes; whether that was reached.

        Rounding boundaries are no place to adjust a size at: tuned weights lie next to them in great numbers, and the
        errors of those that move no longer cancel. A few more iterations leave the choice to the loss.
        """
        goal = 4.0 * (low + high)
        for group in self.optimiser.param_groups:
            group["lr"] = SETTLE_RATE * group["peak"]
        limit = min(SETTLE, SETTLE_SHARE * self.options.iterations)
        for iteration in range(limit + 1):
            if low <= self.bits() / 8 <= high:
                self._measure()
            if self.hooks.ranks.agree(low <= self.bits() / 8 <= high):
                return True
            if iteration < limit:
                self._iterate(goal, True)
                self.grids.quantise(self.values)
        return False

    def _iterate(self, goal: float, correct: bool) -> float:
        assert self.controller is not None
        start = time.perf_counter()
        on_weights = self.options.rate_on_weights
        self.grids.quantise(self.values, self.options.relaxation, on_weights)
        multiplier = self.controller.update(self.bits(), goal) * self.options.entropy_term
        if correct:
            self.grids.log_step += self.grids.tuned * (FEEDBACK * self.controller.error)
        self.limits.hold(self.grids)
        after_quantise = time.perf_counter()
        loss = self.learn()
        after_net = time.perf_counter()
        self.grids.gradients(self.values, self.gradient, multiplier / self.grids.count, on_weights)
        if self.scaler.usable:
            self.optimiser.step()
        self.seconds["net"] += after_net - after_quantise
        self.seconds["grids"] += time.perf_counter() - after_net + after_quantise - start
        return loss

    def learn(self) -> float:
        """Mean loss of the next batch and its gradient, of this rank's share and then of all."""
        batch, known = next(self.batches)
        self.drawn += 1
        whole = data.batch_size(batch)
        batch, original = self.hooks.teach(batch, known)
        own = data.batch_size(batch)
        self.given.clear()
        if self.gradient is not self.values:
            self.gradient.zero_()
        total = torch.zeros(())
        if own:
            loss = self.objective(self.student, batch, original).mean() * (own / whole)
            (loss * self.scaler.scale).backward()  # type: ignore[no-untyped-call]
            total = loss.detach()
        if self.gradient is self.values:
            for k in set(range(len(self.grids.sizes))) - self.given:  # not used in this pass
                self.values[self.grids.offsets[k] : self.grids.offsets[k + 1]] = 0
        self.hooks.ranks.sum_(self.gradient)
        self.scaler.unscale_(self.gradient)
        return float(self.hooks.ranks.sum_(total))
