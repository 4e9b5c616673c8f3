"""The official schedule of L², beside the default one: three rounds of first transforms, then weights, one fixed.

    transforms   e, s by Adam(1e-4) on  λ·R̂ + MSE(logits),  λ = 1e-6 per bit while the size is above the target, else
                 a hundredth of it                                                     300 of 1,300 iterations a round
    weights      w by Adam(5e-6) on distillation alone, without a rate               1,000 of 1,300

e = r·s and s are learned in weight units, as they are, from e = s = (max w − min w)/256; vectors are uniform, e = s/2.
Moments persist over the rounds, without warm-up or decay. With fewer than the published 3,900 iterations learning rates
grow in proportion, so that parameters can move as far. What is not theirs: norms are folded first, the size that
switches λ is the measured one, the file settles at its target, and weights learn without labels unless options say so.

Source: Shi et al., L² compression (ICCV 2023), and ModelTC/L2_Compression, train_final.py.
"""

import torch

from noworse.propose.grids.grid import EDGE_MIN, ZONE_MIN, GridSet
from noworse.propose.grids.transform import Transform
from noworse.representation import EDGE_UNITS, MAX_EDGE
from noworse.tune.adam import Adam
from noworse.tune.objective import Weights
from noworse.tune.start import NEAREST, Ground
from noworse.tune.tuner import Tuner

ROUNDS = 3
TRANSFORM_SHARE = 300 / 1300
PUBLISHED = 3900  # iterations
TRANSFORM_RATE, WEIGHT_RATE = 1e-4, 5e-6
PER_BIT, IDLE = 1e-6, 0.01  # λ, and its factor while the size is below the target
LEVELS = 256
SMALLEST = 1e-12


@torch.no_grad()
def official_start(grids: GridSet) -> None:
    """Set steps of a 256th of each tensor's range, and zero bins as wide as two of them (of vectors: as one)."""
    own = (grids.weights(k) for k in grids.places)
    steps = grids.shares.of_all(torch.tensor([float((w.max() - w.min()) / LEVELS) for w in own], device="cpu"))
    grids.log_step.copy_(steps.clamp(min=SMALLEST).log())
    zones = torch.tensor([1.0 if len(spec.shape) > 1 else 0.5 for spec in grids.specs], device="cpu")
    grids.log_zone.copy_((zones - ZONE_MIN).log())
    grids.rebase()


class AlternatingTuner(Tuner):
    """A ``Tuner`` whose ``run`` alternates."""

    @classmethod
    def tunes(cls, transform: Transform) -> bool:
        """Whether it can tune grids of this transform: dead zones alone, since e and s are what it learns."""
        return transform.straight and transform.tunes_zone

    def start(self, ground: Ground, budget: float) -> None:
        """Start as the official code does, whatever the budget."""
        ground.before.restore()
        official_start(self.grids)
        self.reset(PER_BIT * self.grids.count, NEAREST)

    def run(self, budget: float, iterations: int, stage: str = "tune") -> None:
        """Alternate for ``iterations`` with a target of ``budget`` bits, from the present size."""
        if self.passed(stage):
            return
        grids = self.grids
        self.both = self.objective.weights  # of outputs, features and labels, while weights learn
        self.matrices = torch.tensor([len(spec.shape) > 1 for spec in grids.specs], device="cpu")
        self.step, self.weight = grids.steps(), torch.empty_like(grids.latent)
        for k, place in grids.places.items():
            self.weight[place] = grids.weights(k)
        self.edge = self.step * grids.zones()
        faster = max(1.0, PUBLISHED / max(iterations, 1))
        transforms = Adam([{"params": [self.step, self.edge], "lr": TRANSFORM_RATE * faster}])
        weights = Adam([{"params": [self.weight], "count": grids.count, "lr": WEIGHT_RATE * faster}])
        self.adams = self.optimiser, transforms, weights
        self.beside = {"step": self.step, "edge": self.edge, "weight": self.weight}
        self.parted = grids.latent, self.weight
        super().run(budget, iterations, stage)
        self.objective.weights = self.both
        grids.rebase()  # settling moves weights in units of the steps as they are now

    def turn(self, iteration: int, iterations: int, start: float, budget: float) -> tuple[float, float]:
        """Do one iteration, of transforms or of weights; return its loss, and the bits wanted."""
        transforms = (iteration * ROUNDS / iterations) % 1 < TRANSFORM_SHARE
        self.objective.weights = Weights() if transforms else self.both

        def multiplier() -> float:
            # the distillation loss is divided by a variance, theirs is not
            per_bit = PER_BIT / self.objective.distance.scale * (1.0 if self.bits() >= budget else IDLE)
            return per_bit if transforms else 0.0

        return self.iterate(multiplier, self._step_transforms if transforms else self._step_weights), budget

    @torch.no_grad()
    def _step_transforms(self) -> None:
        """Adam on s and e, from the gradients by ln s and r that the grids have, with r = e/s."""
        grids = self.grids
        by_ln_step, by_ln_zone = grids.log_step.grad, grids.log_zone.grad
        assert by_ln_step is not None
        assert by_ln_zone is not None
        by_ratio = torch.where(self.matrices, by_ln_zone / grids.log_zone.exp(), 0.0)
        self.step.grad = (by_ln_step - by_ratio * self.edge / self.step) / self.step
        self.edge.grad = by_ratio / self.step
        self.adams[1].step()
        self.step.abs_().clamp_(min=SMALLEST)
        self.edge.copy_(torch.where(self.matrices, self.edge.abs(), self.step / 2))
        grids.log_step.copy_(self.step.log())
        ratio = (self.edge / self.step).clamp(EDGE_MIN / EDGE_UNITS, MAX_EDGE / EDGE_UNITS)
        grids.log_zone.copy_((ratio - ZONE_MIN).log())

    @torch.no_grad()
    def _step_weights(self) -> None:
        gradient = self.grids.latent.grad
        assert gradient is not None
        self.weight.grad = gradient.clone()
        units = [(place, self.grids.unit[k]) for k, place in self.grids.places.items()]
        for place, unit in units:
            self.weight.grad[place] /= unit
        self.adams[2].step()
        for place, unit in units:
            torch.div(self.weight[place], unit, out=self.grids.latent[place])
