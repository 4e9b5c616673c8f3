"""What the parts of ``benchmarks.llc`` share: tasks, searches whose measurements are used again, and a judge."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import Row
from noworse.jobs.job import Job
from noworse.jobs.quantize import HELD_BACK, Quantization, story
from noworse.judge.verify import contrast
from noworse.propose.bits.priced import Bits, Priced
from noworse.propose.bits.proposals import TRUE
from noworse.run.named import DEFAULT
from noworse.survey.subject import Subject
from noworse.task.data import Batch
from noworse.task.task import Task
from zoo import data, fashion_mnist

ASKED = ("lenet5", "resnet20", "vgg_small", "mobilenetv2")  # nets of which targets are told
NETS = (*ASKED, "lenet300", "vit_tiny")
CALIB = 2000  # samples
EIGHT = 8  # bits of inputs
Labelled = tuple[Tensor, Tensor]


def labelled_calib(quick: bool) -> list[Labelled]:
    """Calibration images with their labels."""
    images, labels = (part[: 400 if quick else CALIB].split(250) for part in data.load("calib"))
    return list(zip(images, labels, strict=True))


def task_of(net: str, quick: bool, labelled: bool = False) -> Task:
    """The net's task, judged on the test images; ``labelled`` gives calib its labels."""
    task = fashion_mnist.build(net)
    pairs = labelled_calib(quick)
    calib: Any = pairs if labelled else [images for images, _ in pairs]
    return replace(task, calib=calib, verify=list(task.verify)[: 1 if quick else None])


def search_of(task: Task, preset: str = DEFAULT) -> Priced:
    """A search for bits with inputs of 8 bits."""
    return Priced(Subject(task, list(task.calib), HELD_BACK), EIGHT, preset, TRUE)


def quantise(net: Priced, held_out: Sequence[Batch], bits: Bits | None, tolerance: float) -> Quantization:
    """Quantise a net whose proposals may be priced already, judged on ``held_out``."""
    return story(Job(replace(net.subject.task, verify=held_out), tolerance), net, bits)


def inputs_as_they_are(net: Priced) -> Priced:
    """The same net, whose inputs are not rounded; what weights cost stays known."""
    _ = net.choices  # measured once, for both
    other = copy.copy(net)
    other.activation_bits = None
    return other


def paper_search(net: str, quick: bool) -> Priced:
    """The same for LLC as published, which looks at labels."""
    return search_of(task_of(net, quick, labelled=True), "paper")


@dataclass(frozen=True)
class Judged:
    """A module against the original on the same images."""

    differences: NDArray[np.float64]  # of losses, (N,), nats
    kl: float  # mean KL(original || module), nats
    top1: float  # minus the original's, points

    @property
    def mean(self) -> float:
        """Mean loss difference."""
        return float(self.differences.mean())


class Judge:
    """Losses and logits of a classifier, kept for many comparisons with it."""

    def __init__(self, model: nn.Module, batches: list[Labelled]) -> None:
        self.batches = batches
        self.labels = torch.cat([labels for _, labels in batches])
        self.logits = self._logits(model)

    @torch.no_grad()
    def _logits(self, model: nn.Module) -> Tensor:
        model.eval()
        return torch.cat([model(images) for images, _ in self.batches])

    def __call__(self, model: nn.Module) -> Judged:
        """How the model compares."""
        return self.logits_judged(self._logits(model))

    def logits_judged(self, logits: Tensor) -> Judged:
        """How a model with these logits (N, K) compares."""
        before, after = (F.cross_entropy(z.double(), self.labels, reduction="none") for z in (self.logits, logits))
        right = [float((z.argmax(1) == self.labels).double().mean()) for z in (self.logits, logits)]
        divergence = contrast(self.logits, logits)[1]
        return Judged((after - before).numpy(), float(divergence.mean()), 100 * (right[1] - right[0]))


def against(what: str, ours: Judged, rival: str, other: Judged) -> list[Row]:
    """Rows of ours minus another's: losses, which depend on the labels that the images happen to have, and KL."""
    excess = ours.differences - other.differences
    error = float(excess.std() / np.sqrt(len(excess)))
    return [
        Row(f"{what}, {rival}: loss difference", other.mean, "nats"),
        Row(f"{what}, {rival}: KL to the original", other.kl, "nats"),
        Row(f"{what}: default minus {rival}, loss", float(excess.mean()), "nats", "<= 0"),
        Row(f"{what}: default minus {rival}, standard error of that", error, "nats"),
        Row(f"{what}: default minus {rival}, KL", ours.kl - other.kl, "nats", "<= 0"),
    ]
