from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse as nw
from noworse.task.data import forward
from noworse.task.layout import takes_channels_last
from tests.tiny import task


class Viewing(nn.Module):
    """A net as most tutorials write it: what the convolutions return is flattened by ``view``."""

    def __init__(self, how: str = "view", channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how, self.conv, self.fc = how, nn.Conv2d(channels, 8, 3), nn.Linear(8 * 6 * 6, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.fc(x.view(len(x), -1) if self.how == "view" else x.reshape(len(x), -1))  # type: ignore[no-any-return]


class Striding(Viewing):
    """Reads memory as it lies, whatever the strides: the outputs differ between layouts."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.fc(x.as_strided((len(x), 8 * 6 * 6), (8 * 6 * 6, 1)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "takes"),
    [(Viewing(), False), (Viewing("reshape"), True), (Striding(), False), (nn.Linear(8, 2), True)],
)
def test_which_models_take_channels_last(model: nn.Module, takes: bool) -> None:
    assert takes_channels_last(model, torch.randn(4, 3, 8, 8), forward) is takes


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"augment": lambda batch: batch}], ids=["plain", "augmented"])
def test_views_go_through_all_verbs(channels: int, options: dict[str, object], tmp_path: Path) -> None:
    job = task(Viewing("view", channels), channels, 8, 8, **options)
    small = nw.Options(iterations=3)
    report = nw.compress_task(job, tmp_path / "x.nwt", target=6, tolerance=None, options=small, progress=None)
    loaded = nw.load_model(Viewing("view", channels), tmp_path / "x.nwt")
    assert nw.verify(tmp_path / "x.nwt", job.model, job.loss, job.verify) == report.verdict
    assert loaded(job.verify[0][0]).shape == (200, 4)  # type: ignore[index]
    assert nw.quantize_task(job, bits=6, tolerance=None).mean_bits <= 6
    assert nw.decompose_task(job, drop=0.3, tolerance=None).chosen
