"""Nets that tune in a second, with data drawn from their own predictions, for the tests of whole compressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.jobs.compress import compress_task
from noworse.jobs.report import Report
from noworse.task.task import Task
from noworse.tune.options import Options


def mlp(width: int = 64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, 4)).eval()


def redundant(width: int = 48, rank: int = 4) -> nn.Module:
    """A net whose first layer has low rank but for a little noise."""
    model: Any = mlp(width)
    with torch.no_grad():
        weight = torch.randn(width, rank) @ torch.randn(rank, 20) / 4
        model[0].weight.copy_(weight + 0.003 * torch.randn(width, 20))
    return model  # type: ignore[no-any-return]


class ConvNet(nn.Module):
    """Convolutions with and without bias before batch norms that have seen data; images (B, 1, 12, 12)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 24, 3, stride=2), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 4)
        for norm in (self.bn1, self.bn2):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias)
        with torch.no_grad():
            for _ in range(20):
                self(2 * torch.randn(50, 1, 12, 12) + 1)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention (8 wide, 2 heads, batch first) of four linear layers with the weights of torch's."""

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        shared: Any = source.in_proj_weight
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        weights = shared.chunk(3) if shared is not None else [getattr(source, name) for name in names]
        for name, weight, bias in zip("qkv", weights, source.in_proj_bias.chunk(3), strict=True):
            layer = nn.Linear(weight.shape[1], 8)
            layer.weight, layer.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
            setattr(self, name, layer)
        self.out = nn.Linear(8, 8)
        self.out.load_state_dict(source.out_proj.state_dict())

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = [x.unflatten(-1, (2, 4)).transpose(1, 2) for x in (self.q(query), self.k(key), self.v(value))]
        scores = heads[0] @ heads[1].transpose(2, 3) / 2
        return self.out((scores.softmax(-1) @ heads[2]).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Language(nn.Module):
    """Token ids (B, T) as keyword arguments to logits (B, T, 40) in a mapping; tied embeddings and a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Embedding(40, 24), nn.LayerNorm(24)
        self.mix, self.head = nn.Linear(24, 24), nn.Linear(24, 40, bias=False)
        nn.init.normal_(self.norm.weight, 1, 0.3)
        self.head.weight = self.embed.weight
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.embed(input_ids) * attention_mask[..., None]
        return {"logits": self.head(x + torch.tanh(self.mix(self.norm(x))))}


class Odd(nn.Module):
    """Everything that is no ordinary weight: a frozen, an unused, an empty, a constant, a one-element parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.spare, self.last = nn.Linear(20, 48), nn.Linear(9, 9), nn.Linear(48, 4)
        self.first.weight.requires_grad_(False)
        self.empty = nn.Parameter(torch.zeros(0, 5))
        self.ones, self.one, self.scalar = (nn.Parameter(torch.ones(n)) for n in ((48,), (1,), ()))
        self.register_buffer("order", torch.arange(48).flip(0))
        self.register_buffer("enabled", torch.tensor(True))
        self.register_buffer("noise", 0.01 * torch.randn(48))
        self.register_buffer("echo", self.noise)
        self.register_buffer("forgotten", torch.randn(3), persistent=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))[:, self.order] * self.ones * self.one + self.noise
        return self.last(x) * self.scalar  # type: ignore[no-any-return]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy in nats, (B,)."""
    return F.cross_entropy(model(batch[0]).float(), batch[1], reduction="none")


def language_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy in nats, averaged over positions: (B,)."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])["logits"]
    return F.cross_entropy(logits.transpose(1, 2), batch["labels"], reduction="none").mean(1)


@torch.no_grad()
def task(model: nn.Module, *shape: int, **extras: Any) -> Task:
    """A task of 300 calibration and 800 held-out samples (default shape (20,)), labels drawn from the model itself."""
    kind = next(p.dtype for p in model.parameters())
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1100, *(shape or (20,)), generator=generator).to(kind)
    was_training = model.training
    y = model.eval()(x).float().softmax(1).multinomial(1, generator=generator)[:, 0]
    model.train(was_training)
    held_out = list(zip(x[300:].split(200), y[300:].split(200), strict=True))
    given = {"model": model, "loss": loss, "calib": list(x[:300].split(100)), "verify": held_out}
    return Task(**{**given, **extras})


def language_task(model: nn.Module) -> Task:
    """The same for ``Language``: dicts whose sequences differ in length from batch to batch."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for length in (5, 7, 5, 6):
        ids = torch.randint(0, 40, (100, length), generator=generator)
        labels = ids.roll(-1, 1)
        batches.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return Task(model, language_loss, batches[:2], batches[2:])


def run(
    job: Task,
    out: Path,
    target: float | str | None = None,
    tolerance: float | str | None = None,
    iterations: int = 20,
    **options: Any,
) -> Report:
    """Compress quietly."""
    chosen = Options(iterations=iterations, **options)
    return compress_task(job, out, target=target, tolerance=tolerance, options=chosen, progress=None)
