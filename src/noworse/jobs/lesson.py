"""What a student is taught while it is tuned: calibration batches, with what the original makes of them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.model.device import home
from noworse.model.tensors import twin
from noworse.run.precision import Precision
from noworse.run.processes import World
from noworse.survey.subject import Outputs, Subject, usable
from noworse.task import data
from noworse.task.calls import told
from noworse.task.data import Batch
from noworse.tune.objective import Features, Objective, Response, Weights, choose_features, variances
from noworse.tune.options import Options
from noworse.tune.sampling import Sampler

CACHE_LIMIT = 1 << 24  # bytes of original outputs kept in memory, or an eighth of what the model has
SURVEYED, AT_A_TIME = 512, 16  # samples that a survey looks at, and together at most: no more than are tuned on
COMPARED = 4096  # most samples that moments are taken from, and plans are compared on


class Lesson:
    """Batches to tune a ``student`` on, the loss between it and the original, and the same loss as a measure.

    Where batches are not varied at random the original's outputs on all of them are computed once and kept, if there is
    room. With features to distil the teacher is a copy of the student as it is now: folding changes inner results.
    """

    def __init__(self, subject: Subject, student: nn.Module, options: Options, world: World) -> None:
        self.subject, self.options, self.world = subject, options, world
        self.teacher = twin(student) if options.features else subject.teacher
        if subject.task.augment is not None and subject.channels_last:  # it runs in every iteration: worth a copy
            self.teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sampler = Sampler(subject.shown, options.batch, options.seed)
        self.device = home(subject.teacher)
        self.precision = Precision(options.precision, self.device.type)
        self.names = choose_features(student, subject.on_probe, options.features) if options.features else ()
        self.objective = self._objective(self.names)
        self.outputs = Outputs(self.original)

    @torch.no_grad()
    def original(self, batch: Batch) -> Tensor:
        """Return the teacher's outputs (B, ..., K) on a batch; BadInput where they cannot be distilled."""
        return usable(self.subject.forward(self.teacher, batch), data.batch_size(batch))

    def _objective(self, names: Sequence[str]) -> Objective:
        options, task = self.options, self.subject.task
        weights = Weights(options.distill_weight, options.feature_weight if names else 0.0, options.label_weight)
        batch, _ = next(iter(Sampler(self.sampler.batches, self.sampler.at_a_time(), options.seed)))
        outputs = self.original(batch)
        size = outputs[0].numel() * 4 * sum(data.batch_size(b) for b in self.sampler.batches)
        limit = max(CACHE_LIMIT, self.subject.original_bytes // 8)
        if task.augment is None and size <= limit and not names and options.iterations:
            self.sampler.remember(self.original)
        kind = None if options.distill == "task" else options.distill
        self.distance = self.subject.distance(outputs, kind)  # what measures; tuning looks at unlikely classes, too
        distance = self.subject.distance(outputs, kind, options.temperature)
        own, cast, forward = task.forward is None, self.precision.cast, self.subject.forward
        made = Objective(distance, forward, weights, Features(names), task.prepared_loss, own, cast)
        if names:
            with torch.no_grad():
                made.features = Features(names, variances(made.observe(self.teacher, batch).features))
        return made

    @torch.no_grad()
    def teach(self, batch: Batch, outputs: Tensor | None) -> tuple[Batch, Response]:
        """Return this rank's share of a batch, varied if the task asks for that, and what the original makes of it."""
        whole, task = data.batch_size(batch), self.subject.task
        if task.augment is not None:  # the whole batch on every rank: a sample's variation is the same on any
            with told("augment fails", lambda: "augment(batch) to return a batch of as many samples"):
                batch = task.augment(data.copied(batch))
            data.check(batch, "what augment returned")
            if data.batch_size(batch) != whole:
                raise BadInput(f"augment made {data.batch_size(batch)} samples of {whole}: expected as many")
        rows = self.world.rows(whole)
        if rows.start == rows.stop:
            return data.select(batch, rows), Response(torch.empty(0, device=self.device))
        if rows != slice(0, whole):
            batch, outputs = data.select(batch, rows), None if outputs is None else outputs[rows]
        if outputs is not None:
            return batch, Response(outputs)
        seen = self.objective.observe(self.teacher, batch)
        return batch, seen._replace(outputs=usable(seen.outputs, data.batch_size(batch)))

    def require(self, student: nn.Module) -> None:
        """Raise BadInput where the student cannot be tuned: for want of labels, or in this precision on this device."""
        probe = self.subject.probe
        self.objective.check(student, probe)
        self.precision.require(lambda: self.objective(student, *self.teach(probe, None)).mean().backward())  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def distortion(self, student: nn.Module) -> float:
        """Return the mean distance of a student's outputs from the original's, on the samples of a survey.

        Each rank looks at some of them, and all return the same.
        """
        found: list[Tensor] = []  # of all samples

        def own() -> Iterator[Batch]:
            for number, batch in enumerate(self.subject.samples(SURVEYED, min(AT_A_TIME, self.options.batch))):
                found.append(torch.zeros(data.batch_size(batch), dtype=torch.float32, device="cpu"))
                if self.world.takes(number):
                    yield batch

        for batch, wanted in self.outputs(own()):
            found[-1] += self.distance(self.subject.forward(student, batch), wanted).cpu()
        return float(self.world.sum_(torch.cat(found)).mean())

    @torch.no_grad()
    def loss(self, student: nn.Module) -> float:
        """Return the mean loss that the finished file is to have little of, on samples of calib as they are.

        That is what tuning lowers, but for labels: where they count, theirs is the loss that the file is judged by.
        """
        batches = self.subject.samples(COMPARED, min(AT_A_TIME, self.options.batch))
        seen = ((batch, self.objective.observe(self.teacher, batch)) for batch in batches)
        return float(torch.cat([self.objective.judged(student, *each) for each in seen]).mean())
