"""How much data-free files of 3 and 4 bits per weight cost, for several balances of the error over tensors.

Settings are chosen by these rows, so they are measured on development data: images
and documents that no other benchmark is judged on. A balance b gives a tensor of n elements and mean square P the step
s ~ sqrt(n^b P); "equal steps" gives all tensors the same one. MiniLM's rows need zoo/requirements-pretrained.txt.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import noworse as nw
from benchmarks.harness import Row, Run, Suite, main
from benchmarks.suites.codec_symbols import minilm_path
from noworse.datafree import slope
from noworse.judge.original import metric_of
from noworse.judge.verify import compare
from noworse.task.task import Task
from zoo import fashion_mnist
from zoo.fitting import WEIGHTS

BALANCES = (0.0, 0.5, 1.0)
TARGETS = ("3 bits", "4 bits")
NETS = ("resnet20", "vit_tiny", "mobilenetv2", "minilm")


def task_of(name: str) -> tuple[Task, Path, str]:
    """The task on development data, the file of the weights, and what the names in it lack in front."""
    if name != "minilm":
        return fashion_mnist.dev_task(name), WEIGHTS / f"{name}.safetensors", ""
    from zoo import minilm

    return minilm.dev_task(), minilm_path(), "bert."


def decoded(model: nn.Module, file: Path, prefix: str) -> nn.Module:
    """A copy of the model with the tensors of a file."""
    tensors = {prefix + name: tensor for name, tensor in nw.load_file(file).items()}
    result = copy.deepcopy(model)
    result.load_state_dict({name: tensors[name] for name in result.state_dict()})
    return result


def embedding_error(task: Task, model: nn.Module) -> float:
    """How far embeddings turn: far less noisy than the loss on a few hundred pairs."""
    with torch.no_grad():
        each = [1 - F.cosine_similarity(task.model(**batch), model(**batch), dim=-1) for batch in task.verify]
    return float(torch.cat([errors.flatten() for errors in each]).mean())


def measure(name: str, task: Task, weights: Path, prefix: str, target: str) -> Iterator[Row]:
    """Rows of one net at one size for every balance."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "x.nwt"
        for balance in BALANCES:
            slope.BALANCE = balance
            nw.compress_file(weights, out, target=target)
            model = decoded(task.model, out, prefix)
            with torch.no_grad():
                found = compare(task.model, model, task.loss, task.verify, task.forward, task.distill)
                metric = metric_of(task, model, task.verify)
            where = f"{name}, {target}, balance {balance:g}"
            yield Row(f"{where}: loss difference", float((found.compressed - found.original).mean()), "nats")
            yield Row(f"{where}: metric", np.nan if metric is None else metric, "")
            if found.kl is not None:
                yield Row(f"{where}: KL divergence to the original", float(found.kl.mean()), "nats")
            else:
                yield Row(f"{where}: 1 - cosine to the original", embedding_error(task, model), "")


def rows_of(name: str, run: Run) -> Iterator[Row]:
    """The rows of one net."""
    task, weights, prefix = task_of(name)
    yield Row(f"{name}: metric of the original", metric_of(task, task.model, task.verify) or np.nan, "")
    chosen = slope.BALANCE
    try:
        for target in TARGETS:
            yield from measure(name, task, weights, prefix, target)
    finally:
        slope.BALANCE = chosen


SUITE = Suite("datafree", __doc__, {name: partial(rows_of, name) for name in NETS}, quick=NETS[:1])

if __name__ == "__main__":
    main(SUITE)
