"""What calibration data says of a student's tensors: how much each matters, and what its layers are fed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.jobs.lesson import AT_A_TIME, COMPARED, SURVEYED, Lesson
from noworse.model.device import seeded
from noworse.model.hooks import thawed
from noworse.propose.grids.layers import Layers
from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.student import analyse
from noworse.run.memory import trim
from noworse.run.processes import ALONE, World
from noworse.survey.capture import Call, capture
from noworse.survey.curvature import Probes, tensor_sensitivity
from noworse.survey.moments import input_moments
from noworse.survey.subject import usable
from noworse.task import data

MOMENTS_BYTES = 1 << 25  # of the moments of all inputs, or as many as the weights have


@dataclass
class Survey:
    """The sensitivity of each tensor by name, and the moments of what the layers with compensated rounding are fed.

    ``analyses`` holds the curvature of layers that may be worth factors, the largest first, where these are looked for.
    Plans that are tried share a survey: of a student in factors only the factors are surveyed (``known``).
    """

    sensitivity: dict[str, float] = field(default_factory=dict)
    layers: Layers = field(default_factory=Layers)
    analyses: Mapping[str, Analysis] = field(default_factory=dict)
    hard: frozenset[str] = frozenset()  # without a gradient, but used: what decides which way an input takes

    @property
    def unused(self) -> list[str]:
        """Tensors that calib does not reach."""
        return [name for name, value in self.sensitivity.items() if value == 0]

    def renamed(self, names: Mapping[str, str]) -> Survey:
        """Return the same survey for a student some of whose tensors have other names (new: old)."""
        moved = {new: self.sensitivity[old] for new, old in names.items() if old in self.sensitivity}
        hard = self.hard | {new for new, old in names.items() if old in self.hard}
        return Survey(self.sensitivity | moved, self.layers, self.analyses, hard)


def survey(
    lesson: Lesson,
    student: nn.Module,
    chosen: Mapping[str, nn.Parameter],
    known: Survey,
    tell: Callable[[str], object] = lambda what: None,
) -> Survey:
    """Survey the ``chosen`` parameters of a student; what is ``known`` of those of the same name is taken over.

    ``tell`` hears what comes next. BadInput where none of them influences the outputs.
    """
    options, subject, world = lesson.options, lesson.subject, lesson.world
    at_a_time = min(AT_A_TIME, options.batch)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    new = {name: parameter for name, parameter in chosen.items() if name not in known.sensitivity}

    def probes(world: World) -> Iterator[tuple[Tensor, int] | None]:
        for number, batch in enumerate(subject.samples(SURVEYED, at_a_time)):
            size = data.batch_size(batch)
            yield (usable(subject.forward(student, batch), size), size) if world.takes(number) else None

    tell("survey: gradients")
    measured = tensor_sensitivity(new, probes(world), lesson.distance, options.seed, world) if new else {}
    sensitivity = {name: measured[name] if name in measured else known.sensitivity[name] for name in chosen}
    if not any(sensitivity.values()):
        found = "no parameter influences the model's outputs on calib"
        raise BadInput(f"{found}: expected a differentiable model")
    still = {name: parameter for name, parameter in new.items() if not sensitivity[name]}
    hard = (known.hard & chosen.keys()) | (_hard(student, still, probes(ALONE), lesson) if still else frozenset())
    trim()
    layers = Layers(world) if not known.layers else known.layers.among(chosen)
    if options.rounding != "nearest" and new:
        tell("survey: inputs of layers")
        limit = max(MOMENTS_BYTES, sum(4.0 * parameter.numel() for parameter in chosen.values()))
        runs = subject.runs(student, COMPARED, at_a_time)
        moments = input_moments(student, new, runs, limit, SURVEYED // AT_A_TIME, layers.own(new))
        tell("survey: layers")
        layers.add(new, moments, options.damping)
    trim()
    return Survey(sensitivity, layers, known.analyses, hard)


def _hard(
    student: nn.Module, still: Mapping[str, nn.Parameter], probes: Probes, lesson: Lesson
) -> frozenset[str]:
    """Those of the parameters without a gradient whose modules see samples, and which no forward under no_grad hides.

    Routers of mixtures of experts are of this kind, where an expert's output is not weighted by what they say of it.
    """
    owners = {name: student.get_submodule(name.rpartition(".")[0]) for name in still}
    called = set()

    def see(call: Call) -> None:
        if call.input.numel():
            called.add(call.name)

    with capture(owners, see), thawed():
        through = tensor_sensitivity(still, probes, lesson.distance, lesson.options.seed)
    return frozenset(name for name in called if not through[name])


def curvature(lesson: Lesson, student: nn.Module) -> dict[str, Analysis]:
    """Return the curvature of the layers of ``student`` that may be worth factors, the largest first."""
    generator = seeded(lesson.device, lesson.options.seed)
    runs = lesson.subject.sized_runs(student, SURVEYED, min(AT_A_TIME, lesson.options.batch))
    return analyse(student, lesson.subject.kept, runs, lambda outputs: lesson.distance.probe(outputs, generator))
