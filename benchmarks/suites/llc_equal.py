"""LLC's tables on one net: as few bits as are no worse, all allocations at equal sizes, and the controls.

Controls show what a lower loss is worth: another temperature, rounding against the chosen directions or at random, and
allocations by parts of what ours knows. Each is judged on the images that it was chosen on and on others.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from benchmarks.harness import Row, Run
from benchmarks.suites.llc_nets import (
    ASKED,
    EIGHT,
    Judge,
    against,
    inputs_as_they_are,
    labelled_calib,
    paper_search,
    quantise,
    search_of,
    task_of,
)
from noworse.allocate.knapsack import allocate
from noworse.jobs.quantize import Quantization
from noworse.propose.bits.priced import Priced
from noworse.propose.bits.proposals import COSTS

TOLERANCE = 0.01  # nats
SIZES = (4.5, 3.5, 3.0)  # bits per weight
PAPER_BITS = 8.6  # drop-rate 73 %, as published for most nets
CONTROL_BITS = 4.5
TEMPERATURES = torch.linspace(0.5, 2.0, 151)
WAYS = ("up", "down")


def outcome(what: str, found: Quantization, drop: str, seconds: str = "") -> list[Row]:
    """The rows of one quantisation."""
    verdict = found.verdict
    with TemporaryDirectory() as folder:
        size = found.save(Path(folder) / "a.nwt")
    whole = 4 * sum(p.numel() for p in found.module.parameters())
    gain = (verdict.metric_compressed or 0.0) - (verdict.metric_original or 0.0)
    return [
        Row(f"{what}: bits per weight", found.mean_bits, "bits"),
        Row(f"{what}: drop-rate of weights", 100 * found.drop, "%", drop),
        Row(f"{what}: drop-rate of the whole file", 100 * (1 - size / whole), "%"),
        Row(f"{what}: loss difference", verdict.mean_difference, "nats"),
        Row(f"{what}: its upper bound", verdict.upper_bound, "nats", f"<= {TOLERANCE}"),
        Row(f"{what}: looks at the held-out images", verdict.looks, ""),
        Row(f"{what}: metric minus the original's", gain, ""),
        Row(f"{what}: time", found.seconds, "s", seconds),
    ]


@functools.cache
def _search(net: str, quick: bool) -> Priced:
    return search_of(task_of(net, quick))


@functools.cache
def _paper(net: str, quick: bool) -> Priced:
    return paper_search(net, quick)


@functools.cache
def _judge(net: str, quick: bool) -> Judge:
    task = task_of(net, quick)
    return Judge(task.model, list(task.verify))


def smallest(net: str, run: Run) -> list[Row]:
    """As few bits as the tolerance allows: weights and inputs (LLC: 56 to 77 %), then weights alone."""
    begin = time.monotonic()
    search = _search(net, run.quick)
    held_out = list(search.subject.task.verify)
    found = quantise(search, held_out, None, TOLERANCE)
    found = replace(found, seconds=time.monotonic() - begin)  # with the survey
    drops = (">= 80", ">= 86") if net in ASKED else ("", "")
    rows = outcome(f"{net}, weights and inputs", found, drops[0], "<= 180" if net == "resnet20" else "")
    found = quantise(inputs_as_they_are(search), held_out, None, TOLERANCE)
    return rows + outcome(f"{net}, weights", found, drops[1])


def equal(net: str, run: Run) -> list[Row]:
    """Losses at equal sizes against uniform bits, other costs of the same proposals, and LLC as published."""
    search, paper, judge = _search(net, run.quick), _paper(net, run.quick), _judge(net, run.quick)
    rows: list[Row] = []
    count = sum(site.weight.numel() for site in search.survey.sites)
    for bits in run.few(SIZES):
        what, limit = f"{net}, {bits} bits", bits * count
        ours = judge(search.build(search.at(bits)))
        rows += [
            Row(f"{what}, default: loss difference", ours.mean, "nats"),
            Row(f"{what}, default: KL to the original", ours.kl, "nats"),
        ]
        rivals = {"uniform": search.build(search.fixed({site.name: int(bits) for site in search.survey.sites}))}
        for cost in ("trace", "fisher", "mse"):
            rivals[cost] = search.build(search.pick(allocate(search.priced(cost), limit)))
        rivals["paper"] = paper.build(paper.at(bits))
        for rival, module in rivals.items():
            rows += against(what, ours, rival, judge(module))
    return rows


def controls(net: str, run: Run) -> list[Row]:
    """Loss differences on the calibration images and on held-out ones."""
    search, paper, held_out = _search(net, run.quick), _paper(net, run.quick), _judge(net, run.quick)
    calib = Judge(search.subject.task.model, labelled_calib(run.quick))
    rows = []
    for name, module in _controls(search, paper):
        seen, unseen = calib(module), held_out(module)
        rows += [
            Row(f"{net}, {name}: loss difference on calib", seen.mean, "nats"),
            Row(f"{net}, {name}: loss difference held out", unseen.mean, "nats"),
            Row(f"{net}, {name}: top-1 minus the original's, held out", unseen.top1, "points"),
        ]
    best = min(TEMPERATURES, key=lambda t: calib.logits_judged(calib.logits / t).mean)
    rows.append(Row(f"{net}, the original's best temperature on calib", float(best), ""))
    for where, judge in (("on calib", calib), ("held out", held_out)):
        value = judge.logits_judged(judge.logits / best).mean
        rows.append(Row(f"{net}, original at that temperature: loss difference {where}", value, "nats"))
    return rows


def _controls(search: Priced, paper: Priced) -> Iterator[tuple[str, nn.Module]]:
    yield f"paper at {PAPER_BITS} bits", paper.build(paper.at(PAPER_BITS))
    eight = {site.name: EIGHT for site in paper.survey.sites}
    yield "8 bits, inputs rounded as in the paper", paper.build(paper.fixed(eight))
    draw = torch.Generator().manual_seed(0)
    turned = {name: WAYS[way == "up"] for name, way in paper.directions.items()}
    random = {name: WAYS[int(torch.randint(2, (), generator=draw))] for name in paper.directions}
    for name, directions in (("opposite", turned), ("random", random), ("nearest", dict.fromkeys(turned, "nearest"))):
        other = copy.copy(paper)
        other.__dict__["directions"] = directions  # what the paper's own directions are cached as
        yield f"8 bits, inputs rounded {name}", other.build(other.fixed(eight))
    for bits in (8, 4):
        yield f"uniform int{bits}", search.build(search.fixed({site.name: bits for site in search.survey.sites}))
    limit = CONTROL_BITS * sum(site.weight.numel() for site in search.survey.sites)
    for cost in COSTS:
        priced = replace(search.priced(cost), pairs=None)
        name = "true loss without pairs" if cost == search.cost else cost
        yield f"{CONTROL_BITS} bits by {name}", search.build(search.pick(allocate(priced, limit)))
    first = replace(search.choices, costs=_first_order(search, paper), pairs=None)
    yield f"{CONTROL_BITS} bits by first order alone", search.build(search.pick(allocate(first, limit)))
    yield f"{CONTROL_BITS} bits by default", search.build(search.at(CONTROL_BITS))


def _first_order(search: Priced, labelled: Priced) -> list[list[float]]:
    """⟨G, δ⟩ of every proposal for the mean gradient G of the labelled loss on calib."""
    weights = {site.key: site.weight.requires_grad_(True) for site in labelled.survey.sites}
    found = torch.autograd.grad(labelled.losses().mean(), list(weights.values()), allow_unused=True)
    labelled.teacher.requires_grad_(False)
    gradients = dict(zip(weights, found, strict=True))
    costs = []
    for row in search.proposals:
        costs.append([])
        for proposal in row:
            gradient = gradients[proposal.name]
            unmoved = gradient is None or proposal.written is None
            moved = 0.0 if unmoved else float((gradient * (proposal.decode() - weights[proposal.name].detach())).sum())
            costs[-1].append(moved)
    return costs


PARTS = (smallest, equal, controls)
