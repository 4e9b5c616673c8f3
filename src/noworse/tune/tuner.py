"""Joint tuning of weights, steps and zones by gradient: distillation loss + λ · soft entropy, at a given size."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.propose.grids.grid import GridSet
from noworse.propose.grids.transform import Transform
from noworse.rate.soft import Kernel, Rate
from noworse.run.precision import LossScaler
from noworse.run.processes import ALONE, World
from noworse.run.resume import NOWHERE, Work
from noworse.task import data
from noworse.task.data import Batch
from noworse.tune.adam import Adam
from noworse.tune.attach import attach, may_share
from noworse.tune.checkpoint import checkpoint, resume
from noworse.tune.control import BitLimits, RateController, budget_at
from noworse.tune.objective import Objective, Response
from noworse.tune.options import Options
from noworse.tune.progress import Progress, ProgressLine
from noworse.tune.sampling import Sampler
from noworse.tune.start import COMPENSATED, Ground, start

MEASURE_EVERY = 25  # iterations between measurements of the whole file
FINAL_RATE, FINAL_GRID_RATE = 0.02, 0.1  # of the learning rates of weights, and of steps and zones, after the cosine
FEEDBACK, STEADY = 0.05, 0.85  # of ln(size/budget) on ln s in each iteration, up to this share of the iterations
# most further iterations until the size is right (also as a multiple of those before), and their learning rates
SETTLE, SETTLE_SHARE, SETTLE_RATE = 200, 10, 0.1


@dataclass(frozen=True)
class Hooks:
    """Functions that tuning calls, and the processes and checkpoints that it belongs to.

    ``teach(batch, outputs)`` gives this rank's share of the batch to train on (augmented, where asked for) and what the
    original makes of it, of which ``outputs`` may be known.
    """

    teach: Callable[[Batch, Tensor | None], tuple[Batch, Response]]
    file_size: Callable[[], int]  # bytes of the file that would be written now
    progress: Progress
    world: World = ALONE
    work: Work = NOWHERE


class Tuner:
    """Tunes the grids of one student; ``run`` may be called several times with different budgets.

    Other ones override ``start`` and ``turn``, and set what a checkpoint holds: ``adams``, whose moments it needs,
    ``beside``, what is tuned and is not in the grids, and ``parted``, of which each rank has only its part.
    """

    def __init__(
        self, student: nn.Module, grids: GridSet, sampler: Sampler, objective: Objective, options: Options, hooks: Hooks
    ) -> None:
        self.student, self.grids, self.objective, self.options, self.hooks = student, grids, objective, options, hooks
        self.sampler, self.batches, self.drawn = sampler, iter(sampler), 0
        self.given: set[int] = set()  # numbers of the tensors that the last pass gave a gradient
        self.values, self.gradient = attach(student, grids, self.given if may_share(student, grids) else None)
        self.limits = BitLimits(options.layer_bits, grids)
        self.limits.bound_steps(grids, self.values)
        whole = {"lr_weights": {"count": grids.count}}  # of which the latents are this rank's part
        self.optimiser = Adam({"params": [leaf], "option": o, **whole.get(o, {})} for o, leaf in grids.leaves)
        self.adams: tuple[Adam, ...] = (self.optimiser,)
        self.beside: dict[str, Tensor] = {}
        self.parted: tuple[Tensor, ...] = (grids.latent,)
        self._set_pace(COMPENSATED)
        self.kernel: Kernel = options.plugin("kernel")
        self.rate: Rate = options.plugin("rate")
        self.scaler = LossScaler(options.precision)
        self.controller = RateController(1.0)  # until reset()
        self.side_bits = 0.0
        self.seconds = {"net": 0.0, "grids": 0.0}

    @classmethod
    def tunes(cls, transform: Transform) -> bool:
        """Whether it can tune grids of this transform."""
        return True

    def start(self, ground: Ground, budget: float) -> None:
        """Set the grids to where tuning towards a file of ``budget`` bits starts; what was tuned is forgotten."""
        start(self, ground, budget)

    def reset(self, multiplier: float, pace: Sequence[float] = COMPENSATED) -> None:
        """Measure the file, and start the rate controller at ``multiplier`` (loss per bit per weight).

        ``pace`` multiplies the options' learning rates of weights, steps and zones.
        """
        multiplier, *pace = self.hooks.world.agree([multiplier, *pace])
        self._set_pace(pace)
        self.optimiser.state.clear()
        self.hooks.world.copy_(self.grids.tensors[1:])
        self._measure()
        self.controller = RateController(multiplier)

    def release(self) -> None:
        """Free the memory of weights, gradients and moments; nothing can be tuned any more."""
        self.optimiser.state.clear()
        self.optimiser.param_groups.clear()
        for parameter in self.student.parameters():
            parameter.data, parameter.grad = parameter.data.new_empty(0), None
        self.values = self.gradient = self.grids.latent = self.values.new_empty(0)

    def _set_pace(self, pace: Sequence[float]) -> None:
        factors = dict(zip(("lr_weights", "lr_steps", "lr_zones"), pace, strict=True))
        for group in self.optimiser.param_groups:
            option = group["option"]
            final = FINAL_RATE if option == "lr_weights" else FINAL_GRID_RATE
            group.update(peak=getattr(self.options, option) * factors[option], final=final)

    def _measure(self) -> None:
        """Quantise, as codes and file are to be of the same weights, and see what the file takes beside its codes."""
        self.grids.quantise(self.values)
        self.side_bits = 8 * self.hooks.file_size() - float(self.grids.bits.sum())

    def bits(self) -> float:
        """Return the bits of the whole file now: hard codes of this iteration, all else as last measured."""
        return float(self.grids.bits.sum()) + self.side_bits

    def run(self, budget: float, iterations: int, stage: str = "tune") -> None:
        """Tune for ``iterations`` towards a file of ``budget`` bits, from the present size."""
        if self.passed(stage):
            return
        first, start, running = resume(self)
        begin = time.monotonic()
        for iteration in range(first, iterations):
            loss, goal = self.turn(iteration, iterations, start, budget)
            running = loss if iteration == 0 else 0.95 * running + 0.05 * loss
            if not math.isfinite(running):
                found = f"the loss became {loss} at iteration {iteration} of {stage}"
                raise BadInput(f"{found}: expected finite outputs, or lower learning rates")
            if (iteration + 1) % MEASURE_EVERY == 0 or iteration + 1 == iterations:
                self._measure()
                left = (time.monotonic() - begin) / (iteration + 1 - first) * (iterations - iteration - 1)
                self.hooks.progress(
                    ProgressLine(stage, iteration + 1, iterations, self.bits() / 8, goal / 8, running, left)
                )
            at = {"stage": stage, "iteration": iteration + 1, "start": start, "running": running}
            self.hooks.work.offer(functools.partial(checkpoint, self, at), iteration + 1 == iterations)

    def passed(self, stage: str | None = None) -> bool:
        """Whether the checkpoint that this run goes on from was made in a later stage, or in any if None."""
        position = self.hooks.work.position
        return position is not None and position["stage"] != stage

    def turn(self, iteration: int, iterations: int, start: float, budget: float) -> tuple[float, float]:
        """Do one iteration of a run from ``start`` to ``budget`` bits; return its loss, and the bits wanted by now."""
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
        """Go on at small learning rates until the file has ``low`` to ``high`` bytes; return whether it was."""
        goal = 4.0 * (low + high)
        for group in self.optimiser.param_groups:
            group["lr"] = SETTLE_RATE * group["peak"]
        limit = min(SETTLE, SETTLE_SHARE * self.options.iterations)
        for iteration in range(limit + 1):
            if low <= self.bits() / 8 <= high:
                self._measure()
            if self.hooks.world.agree(low <= self.bits() / 8 <= high):
                return True
            if iteration < limit:
                self._iterate(goal, True)
                self.grids.quantise(self.values)
        return False

    def _iterate(self, goal: float, correct: bool) -> float:
        def multiplier() -> float:
            found = self.controller.update(self.bits(), goal) * self.options.entropy_term
            if correct:
                self.grids.log_step += self.grids.tuned * (FEEDBACK * self.controller.error)
            self.limits.hold(self.grids)
            return found / self.grids.count

        return self.iterate(multiplier, self.optimiser.step, self.rate.on_weights)

    def iterate(self, multiplier: Callable[[], float], step: Callable[[], None], on_weights: bool = False) -> float:
        """Round, learn from the next batch, and ``step`` along the gradient; return the batch's loss.

        ``multiplier()``, asked for once sizes are known, is what a bit costs; ``on_weights`` whether weights see that.
        """
        with self._timed("grids"):
            self.grids.quantise(self.values, self.kernel, on_weights)
            per_bit = multiplier()
        with self._timed("net"):
            loss = self.learn()
        with self._timed("grids"):
            self.grids.gradients(self.values, self.gradient, per_bit, on_weights)
            if self.scaler.usable:
                step()
        return loss

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - begin

    def learn(self) -> float:
        """Return the mean loss of the next batch over all ranks, and leave its gradient in each rank's part."""
        batch, known = next(self.batches)
        self.drawn += 1
        whole = data.batch_size(batch)
        batch, original = self.hooks.teach(batch, known)
        own = data.batch_size(batch)
        self.given.clear()
        if self.gradient is not self.values:
            self.gradient.zero_()
        total = self.values.new_zeros(())
        if own:
            loss = self.objective(self.student, batch, original).mean() * (own / whole)
            (loss * self.scaler.scale).backward()  # type: ignore[no-untyped-call]
            total = loss.detach()
        if self.gradient is self.values:
            for k in set(range(len(self.grids.sizes))) - self.given:  # not used in this pass
                self.values[self.grids.rows[k]] = 0
        world, shares = self.hooks.world, self.grids.shares
        world.reduce_(shares.parts(self.gradient))
        self.scaler.unscale_(self.gradient[shares.part], world)
        return float(world.sum_(total))
