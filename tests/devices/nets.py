"""Small nets of several kinds, with their tasks, for runs on other devices: those of tests/tiny.py and two more."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noworse.task.task import Task
from tests import tiny


class Recurrent(nn.Module):
    """Sequences (B, 6, 8) to logits of 4 classes, by a GRU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gru, self.fc = nn.GRU(8, 20, batch_first=True), nn.Linear(20, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(2 * self.gru(x)[0][:, -1])  # type: ignore[no-any-return]


class Attentive(nn.Module):
    """Sequences (B, 6, 16) to logits of 4 classes, by attention, a layer norm and a position for each step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.places = nn.Parameter(torch.randn(6, 16) / 4)
        self.mix, self.norm = nn.MultiheadAttention(16, 2, batch_first=True), nn.LayerNorm(16)
        self.fc = nn.Linear(16, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.places
        return self.fc(self.norm(x + self.mix(x, x, x, need_weights=False)[0]).mean(1))  # type: ignore[no-any-return]


TASKS: dict[str, Callable[[], Task]] = {
    "mlp": lambda: tiny.task(tiny.mlp(32)),
    "cnn": lambda: tiny.task(tiny.ConvNet(), 1, 12, 12),
    "gru": lambda: tiny.task(Recurrent(), 6, 8),
    "attention": lambda: tiny.task(Attentive(), 6, 16),
    "language": lambda: tiny.language_task(tiny.Language()),
}
