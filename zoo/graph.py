"""Task ``gcn``: classification of the nodes of a graph by a graph convolutional net (Kipf and Welling, ICLR 2017).

Nodes are the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships (``data/digits.npz``), joined to their
``NEIGHBOURS`` nearest. A batch is the indices of some nodes (B,), with their labels: the net always runs over the whole
graph, which it holds beside its weights, and returns the rows of these nodes. Learning so is transductive, as usual for
this task: pixels of all nodes are seen, but no labels of judged nodes. ``calib`` and ``verify`` hold different nodes;
their neighbourhoods overlap, so losses of nodes are less independent than those of images.

``python -m zoo.graph`` trains the net again; ``python -m zoo.graph --data`` writes the digits from scikit-learn.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.task.task import Task
from zoo.classify import accuracy_percent, loss
from zoo.fitting import Recipe, fit, restore, save

DIGITS = Path(__file__).parent / "data" / "digits.npz"
NEIGHBOURS = 8
LABELLED, DEVELOPMENT, VERIFY = 400, 200, 800  # nodes; the rest, 397, is seen without labels
WIDTH, DROPOUT = 256, 0.5
RECIPE = Recipe("adamw", 5e-3, 5e-3, epochs=4, batch=LABELLED)
STEPS = 20  # iterations that count as an epoch


def digits() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 64) in [0, 1] and labels (1797,)."""
    with np.load(DIGITS) as data:
        return torch.from_numpy(data["images"]).float() / 16, torch.from_numpy(data["labels"].astype(np.int64))


def adjacency(features: Tensor, neighbours: int) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 of the graph where each node is joined to its nearest, either way: (N, F) -> (N, N)."""
    distances = torch.cdist(features.double(), features.double(), compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(-1)  # a node is nearest to itself, which is the I
    nearest = distances.sort(dim=1, stable=True).indices[:, : neighbours + 1]
    joined = torch.zeros(len(features), len(features)).scatter_(1, nearest, 1.0)
    joined = torch.maximum(joined, joined.T)
    scale = joined.sum(1).rsqrt()
    return scale[:, None] * joined * scale


class GCN(nn.Module):
    """Three layers H' = relu(Â H W + b) of width 256 on one graph, which is no part of the weights."""

    def __init__(self, features: Tensor, graph: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("graph", graph.to_sparse().coalesce(), persistent=False)
        widths = [features.shape[1], WIDTH, WIDTH, 10]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, nodes: Tensor) -> Tensor:  # (B,) -> (B, 10)
        x = self.features
        for layer in self.layers[:-1]:
            x = F.dropout(F.relu(layer(self.graph @ x)), DROPOUT, self.training)
        return self.layers[-1](self.graph @ x)[nodes]


def parts() -> dict[str, Tensor]:
    """Disjoint nodes by what they are for: labelled, development, verify and rest, drawn at random."""
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    sizes = [LABELLED, DEVELOPMENT, VERIFY, 1797 - LABELLED - DEVELOPMENT - VERIFY]
    return dict(zip(("labelled", "development", "verify", "rest"), order.split(sizes), strict=True))


def net() -> GCN:
    """The net with random weights, on the graph of the digits."""
    features, _ = digits()
    return GCN(features, adjacency(features, NEIGHBOURS))


def build(split: str = "verify") -> Task:
    """The task judged on 800 nodes (``"verify"``) or on 200 others (``"development"``)."""
    _, labels = digits()
    nodes = parts()
    return Task(
        model=restore("gcn", net(), "python -m zoo.graph"),
        loss=loss,
        calib=[torch.cat([nodes["labelled"], nodes["rest"]])],
        verify=[(nodes[split], labels[nodes[split]])],
        score=accuracy_percent,
        name="gcn" + ("" if split == "verify" else f" ({split})"),
    )


def gcn() -> Task:
    """GCN on the nearest-neighbour graph of scikit-learn's digits."""
    return build()


def dev_task() -> Task:
    """The same task judged on other nodes, for choosing settings."""
    return build("development")


@torch.no_grad()
def scores(model: nn.Module, split: str) -> dict[str, float]:
    """Mean loss and accuracy over the nodes of a split, named ``dev`` or ``test``."""
    _, labels = digits()
    nodes = parts()[split]
    batch = nodes, labels[nodes]
    name = "dev" if split == "development" else "test"
    mean, right = loss(model, batch).double().mean().item(), accuracy_percent(model(nodes), batch).mean().item()
    return {f"{name}_loss": round(mean, 5), f"{name}_accuracy": round(right, 2)}


def train(recipe: Recipe = RECIPE) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train on the labelled nodes, all of them in every iteration."""
    torch.manual_seed(recipe.seed)
    _, labels = digits()
    nodes = parts()["labelled"]
    batch = nodes, labels[nodes]
    model = net()
    log = fit(model, lambda: [batch] * STEPS, STEPS, lambda m, b: loss(m, b).mean(),
              lambda m: scores(m, "development"), recipe)
    return model, log


def fetch() -> None:
    """Write the digits that scikit-learn ships."""
    from sklearn.datasets import load_digits

    found = load_digits()
    np.savez_compressed(DIGITS, images=found.data.astype(np.uint8), labels=found.target.astype(np.uint8))


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:] == ["--data"]:
        fetch()
        return
    model, log = train()
    save("gcn", model, RECIPE, log, scores(model, "verify"))


if __name__ == "__main__":
    main()
