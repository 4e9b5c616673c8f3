from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import noworse as nw
from noworse.judge.original import metric_of
from noworse.task.data import shared_samples
from noworse.task.task import Task, load_task
from zoo import graph
from zoo.fitting import WEIGHTS


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(f"{graph.__file__}:gcn")


def test_the_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    pixels, labels = graph.digits()
    assert np.array_equal(pixels.numpy() * 16, datasets.load_digits().data)
    assert np.array_equal(labels.numpy(), datasets.load_digits().target)


def test_adjacency_by_its_definition() -> None:
    features = torch.rand(30, 3, generator=torch.Generator().manual_seed(0))
    joined = np.eye(30)
    for i in range(30):
        others = sorted((j for j in range(30) if j != i), key=lambda j: float((features[i] - features[j]).norm()))
        for j in others[:4]:
            joined[i, j] = joined[j, i] = 1
    degree = joined.sum(1)
    expected = joined / np.sqrt(degree[:, None] * degree[None, :])
    assert np.allclose(graph.adjacency(features, 4).numpy(), expected, atol=1e-6)


@torch.no_grad()
def test_the_net_by_its_formula(task: Task) -> None:
    features, _ = graph.digits()
    dense = graph.adjacency(features, graph.NEIGHBOURS).double()
    x = features.double()
    for k, layer in enumerate(task.model.layers):
        x = dense @ x @ layer.weight.double().T + layer.bias.double()
        x = x.clamp_min(0) if k < 2 else x
    nodes = torch.tensor([5, 1700, 5])
    assert torch.allclose(task.model(nodes).double(), x[nodes], atol=1e-3)


def test_nodes_are_judged_that_neither_calibrate_nor_train(task: Task) -> None:
    parts = graph.parts()
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(1797))
    assert shared_samples(task.calib, task.verify) == 0
    assert sorted(task.verify[0][0].tolist()) == sorted(parts["verify"].tolist())
    development = graph.dev_task()
    assert shared_samples(development.verify, task.verify) == shared_samples(task.calib, development.verify) == 0


def test_the_graph_is_no_part_of_the_file(task: Task) -> None:
    assert set(task.model.state_dict()) == {f"layers.{k}.{kind}" for k in range(3) for kind in ("weight", "bias")}


def test_accuracy_and_loss_of_the_log(task: Task) -> None:
    record = json.loads((WEIGHTS / "gcn.json").read_text())
    assert record["test_accuracy"] >= 97
    assert metric_of(task, task.model, task.verify) == pytest.approx(record["test_accuracy"], abs=0.13)
    with torch.no_grad():
        losses = task.loss(task.model, task.verify[0])
        logits = task.model(task.verify[0][0][:3]).tolist()
    expected = [math.log(sum(map(math.exp, row))) - row[k] for row, k in zip(logits, task.verify[0][1], strict=False)]
    assert losses[:3].tolist() == pytest.approx(expected, abs=1e-5)
    assert losses.double().mean().item() == pytest.approx(record["test_loss"], abs=1e-4)


@pytest.mark.slow
def test_a_compression_from_task_to_verdict(task: Task, tmp_path: Path) -> None:
    options = nw.Options(iterations=20, batch=797, rounding="nearest")
    report = nw.compress_task(task, tmp_path / "gcn.nwt", target=15, tolerance=None, options=options, progress=None)
    assert report.ratio >= 15
    assert report.verdict.upper_bound < 0.02
    assert abs(report.verdict.metric_original - report.verdict.metric_compressed) < 1
