"""Low-rank decomposition: how much goes at no worse a loss, against other weightings, training, Tucker and CP.

Everything is judged on the 10,000 test images (1,000 passages for MiniLM), which no setting was chosen on. ``--quick``
takes 500 of them and the smallest net. Sections: search, equal, paper, tune, tensors, minilm, speed, and CASE-joint for
the cases of ``benchmarks.lowrank_joint``.
"""

from __future__ import annotations

import copy
import functools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.harness import Row, Run, Section, Suite, main, rounds
from benchmarks.suites import lowrank_joint
from benchmarks.suites.lowrank_joint import JUDGED, MEASURES
from noworse.jobs.decompose import HELD_BACK, Decomposition, decompose_task, finished
from noworse.judge.original import Original
from noworse.judge.verify import Verdict, verify_module
from noworse.model.factorised import FLAT
from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.factoring import Factoring
from noworse.propose.ranks.spectrum import KRONECKER, PLAIN
from noworse.survey.curvature import measure_curvature
from noworse.survey.subject import Subject
from noworse.task.task import Task
from zoo import data, fashion_mnist

NETS = ("lenet5", "vgg_small", "lenet300")
OTHERS = ("svd-llm", "asvd", "fwsvd", "svd")
DROPS = (0.5, 0.7, 0.85, 0.92)
EPOCHS = 3  # of training after plain SVD


def dense(name: str, layer: nn.Module) -> bool:
    """Fully connected layers alone."""
    return isinstance(layer, nn.Linear)


def encoder(name: str, layer: nn.Module) -> bool:
    """Linear layers of MiniLM's encoder, as LLC decomposes BERT."""
    return isinstance(layer, nn.Linear) and ".encoder." in name


def task_of(name: str, quick: bool, labels_of: str = "") -> Task:
    """The net's task; ``labels_of`` names a split which is calib then, with its labels."""
    task = fashion_mnist.build(name)
    calib: Any = task.calib
    if labels_of:
        calib = list(zip(*(part.split(250) for part in data.load(labels_of)), strict=True))
    return replace(task, calib=list(calib)[:4] if quick else calib, verify=list(task.verify)[: 1 if quick else None])


def outcome(what: str, found: Decomposition, bound: str = "") -> list[Row]:
    """The rows of one decomposition."""
    verdict = found.verdict
    return [
        Row(f"{what}: parameters dropped of these layers", 100 * found.layer_drop, "%"),
        Row(f"{what}: parameters dropped of the model", 100 * found.drop, "%"),
        Row(f"{what}: operations", found.flops[1] / found.flops[0], "of before"),
        Row(f"{what}: loss difference", verdict.mean_difference, "nats"),
        Row(f"{what}: its upper bound", verdict.upper_bound, "nats", bound),
        Row(f"{what}: metric minus the original's", _gain(verdict), ""),
        Row(f"{what}: samples of calib", found.samples, ""),
        Row(f"{what}: time", found.seconds, "s"),
    ]


def _gain(verdict: Verdict) -> float:
    assert verdict.metric_compressed is not None
    assert verdict.metric_original is not None
    return verdict.metric_compressed - verdict.metric_original


def search(run: Run) -> list[Row]:
    """As small as the tolerance allows: dense layers, then all layers."""
    rows = []
    for net in run.few(NETS):
        for which, only in (("dense layers", dense), ("all layers", None)):
            found = decompose_task(task_of(net, run.quick), tolerance=0.01, only=only)
            mine = outcome(f"{net}, {which}", found, "<= 0.01")
            if net != "lenet300" and only is not None:
                mine[0] = replace(mine[0], target=">= 60")
                mine[-1] = replace(mine[-1], target="<= 120")
            rows += mine
    return rows


def equal(run: Run) -> list[Row]:
    """Every weighting at equal drop of the dense layers, each with one measurement of curvature for all drops."""
    rows = []
    for net in run.few(NETS):
        task = task_of(net, run.quick)
        searches = {p: Factoring(Subject(task, list(task.calib), HELD_BACK), dense, p) for p in ("default", *OTHERS)}
        original = Original(task, list(task.verify))
        for drop in run.few(DROPS, 2):
            modules = {preset: finished(task.model, *search.at_drop(drop)) for preset, search in searches.items()}
            found = {p: verify_module(m, original, tolerance=0.01) for p, m in modules.items()}
            for kind, key in MEASURES.items():
                what, values = f"{net}, {drop:.0%} dropped", {p: getattr(v, key) for p, v in found.items()}
                rows += [Row(f"{what}, {preset}: {kind}", value, "nats") for preset, value in values.items()]
                best = min(OTHERS, key=values.__getitem__)
                excess = f"{what}, default minus the best other"
                rows.append(Row(f"{excess}: {kind}", values["default"] - values[best], "nats", "<= 0"))
                if key == JUDGED:
                    bound = lower_bound(task, modules[best], modules["default"])
                    rows.append(Row(f"{excess}: its lower bound", bound, "nats", "<= 0"))
    return rows


def lower_bound(task: Task, one: nn.Module, other: nn.Module) -> float:
    """What the loss of ``other`` surely is above that of ``one``, on the same images: above 0 where it is worse."""
    return verify_module(other, Original(replace(task, model=one), list(task.verify)), tolerance=0.01).lower_bound


def paper(run: Run) -> list[Row]:
    """LLC as published (its Table 4: dense layers of CNNs), chosen on training images, or as there on unseen ones."""
    rows = []
    splits = {"calib": "paper", "development": "paper, chosen on unseen images"}
    for net in run.few((*NETS, "resnet20")):
        for split, what in run.few(list(splits.items())):
            found = decompose_task(task_of(net, run.quick, split), tolerance=0.01, only=dense, preset="paper")
            rows += outcome(f"{net}, {what}", found)
    return rows


def tune(run: Run) -> list[Row]:
    """VGG-small: plain SVD and training with labels against decomposition alone, at equal drop (LLC's Table 6)."""
    net = "lenet5" if run.quick else "vgg_small"
    task = task_of(net, run.quick, "calib")
    ours = decompose_task(task, drop=0.7, only=dense, tolerance=None)
    begin = time.monotonic()
    plain = decompose_task(task, drop=0.7, only=dense, preset="svd", tolerance=None)
    tuned = copy.deepcopy(plain.module).train()
    optimiser = torch.optim.AdamW(tuned.parameters(), 1e-4)
    for _ in range(1 if run.quick else EPOCHS):
        for images, labels in task.calib:
            for x, y in zip(images.split(50), labels.split(50), strict=True):
                optimiser.zero_grad()
                F.cross_entropy(tuned(x), y).backward()
                optimiser.step()
    verdict = verify_module(tuned.eval(), Original(task, list(task.verify)), tolerance=0.01)
    seconds = time.monotonic() - begin
    rows = outcome(f"{net}, 70 % dropped, default", ours) + outcome(f"{net}, 70 % dropped, svd", plain)
    rows.append(Row(f"{net}, 70 % dropped, svd and training: loss difference", verdict.mean_difference, "nats"))
    rows.append(Row(f"{net}, 70 % dropped, svd and training: metric minus the original's", _gain(verdict), ""))
    return [*rows, Row(f"{net}, 70 % dropped, svd and training: time", seconds, "s")]


def tensors(run: Run) -> list[Row]:
    """LeNet-5's second convolution at half its parameters: ours against Tucker-2 and CP of tensorly, if installed."""
    try:
        import tensorly  # type: ignore[import-not-found,import-untyped]
        from tensorly.decomposition import parafac, partial_tucker  # type: ignore[import-not-found,import-untyped]
    except ImportError:
        print("tensors: skipped, tensorly is absent (pip install tensorly)", file=sys.stderr)
        return []
    tensorly.set_backend("pytorch")
    task = task_of("lenet5", run.quick)
    found = decompose_task(task, drop=0.5, only=lambda name, layer: name == "conv2", tolerance=None)
    rows = outcome("lenet5 conv2, half dropped, default", found)
    weight = task.model.get_parameter("conv2.weight").detach()
    most = found.decomposable[1]
    ranks = max((r, max(1, round(r * 0.4))) for r in range(1, 50) if 50 * r + r * max(1, round(r * 0.4)) * 25
                 + 20 * max(1, round(r * 0.4)) <= most)  # fmt: skip
    core = partial_tucker(weight, rank=list(ranks), modes=[0, 1])[0]
    rebuilt = {
        "Tucker-2": tensorly.tenalg.multi_mode_dot(core[0], core[1], modes=[0, 1]),
        "CP": tensorly.cp_to_tensor(parafac(weight, rank=most // sum(weight.shape), random_state=0)),
    }
    for name, value in rebuilt.items():
        model = copy.deepcopy(task.model)
        model.get_parameter("conv2.weight").data.copy_(value)
        verdict = verify_module(model, Original(task, list(task.verify)), tolerance=0.01)
        rows.append(Row(f"lenet5 conv2, half dropped, {name}: loss difference", verdict.mean_difference, "nats"))
    return rows


def minilm(run: Run) -> list[Row]:
    """MiniLM in BERT's place (LLC's Table 5): a fifth of its encoder."""
    from zoo.minilm import minilm as build

    task = build()
    if run.quick:
        task = replace(task, calib=list(task.calib)[:2], verify=list(task.verify)[:1])
    found = decompose_task(task, drop=0.2, only=encoder, tolerance=None)
    rows = outcome("minilm, encoder", found)
    rows[0] = replace(rows[0], target=">= 20")
    rows[5] = replace(rows[5], target=">= -0.01")
    batch = {key: value[:, 0] for key, value in next(iter(task.verify)).items()}
    return rows + forward_rows("minilm", task.model, found, lambda model: model(**batch))


def joint_of(name: str) -> Section:
    """A net's file with layers as products where they lose less, against its files of grids alone."""

    def section(run: Run) -> list[Row]:
        task = task_of(name.partition(" ")[0], run.quick)
        return lowrank_joint.rows_of(name, lowrank_joint.CASES[name], task, run.quick)

    return section


def speed(run: Run) -> list[Row]:
    """Scoring all ranks against one SVD; the forward pass against its operations."""
    torch.manual_seed(0)
    layer, x = nn.Linear(1000, 512), torch.randn(2000, 1000)
    module = nn.Sequential(layer)
    runs = [(lambda: module(x), 2000)]
    known = measure_curvature(module, {"0": layer}, runs, lambda out: (out * torch.randn_like(out)).sum())
    matrix, gradient = layer.weight.detach().double(), torch.randn(512, 1000, dtype=torch.float64)

    def score(weighting: str) -> None:
        analysis = Analysis(layer, known["0"], weighting)
        analysis.spectrum(FLAT).first_order(gradient)
        analysis.candidates()

    ways = (PLAIN, KRONECKER)
    decomposition = functools.partial(torch.linalg.svd, matrix, full_matrices=False)
    one, *scoring = medians(decomposition, *(functools.partial(score, way) for way in ways))
    what = [f"512 x 1000: scoring all ranks, {way}" for way in ways]
    rows = [Row(name, spent / one, "SVDs", "<= 2") for name, spent in zip(what, scoring, strict=True)]
    task = task_of("lenet5", run.quick)
    found = decompose_task(task, drop=0.8, tolerance=None)
    images = torch.cat([images for images, _ in task.verify])[:500]
    return rows + forward_rows("lenet5", task.model, found, lambda model: model(images))


def forward_rows(
    net: str, original: nn.Module, found: Decomposition, forward: Callable[[nn.Module], object]
) -> list[Row]:
    """Time of a forward pass as a multiple of what its operations predict from the original's time."""
    with torch.no_grad():
        before, after = medians(*(lambda m=module: forward(m.eval()) for module in (original, found.module)))
    predicted = found.flops[1] / found.flops[0]
    return [
        Row(f"{net}: forward pass", after / before, "of before"),
        Row(f"{net}: its operations", predicted, "of before"),
        Row(f"{net}: forward pass over predicted", after / before / predicted, "x", "<= 1.3"),
    ]


def medians(*actions: Callable[[], object]) -> list[float]:
    """Median seconds of each action."""
    seconds = rounds({str(number): action for number, action in enumerate(actions)}, 15)
    return [statistics.median(spent) for spent in seconds.values()]


SECTIONS: dict[str, Section] = {
    **{section.__name__: section for section in (search, equal, paper, tune, tensors, minilm, speed)},
    **{f"{name}-joint": joint_of(name) for name in lowrank_joint.CASES},
}
SUITE = Suite("lowrank", __doc__, SECTIONS, quick=("speed", "search", "equal", "paper", "lenet5-joint"))

if __name__ == "__main__":
    main(SUITE)
