from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import noworse
from noworse.errors import BadInput
from noworse.propose.bits.proposals import OutputChanges
from noworse.propose.grids.allocated import OCTAVES, allocated
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.start import start_at
from noworse.task.distances import distiller_of
from noworse.tune.options import Options
from tests.tiny import ConvNet, task


def chain(scales: tuple[float, float]) -> tuple[GridSet, Tensor, list[Tensor]]:
    """Grids of two matrices whose outputs are added with these scales, their scratch, and inputs."""
    torch.manual_seed(0)
    weights = {"a": torch.randn(8, 8), "b": torch.randn(8, 8)}
    specs = [GridSpec(name, (8, 8), "float32", True) for name in weights]
    return GridSet(specs, {n: nn.Parameter(w) for n, w in weights.items()}, 0.5), torch.empty(128), [torch.randn(64, 8)]


@pytest.mark.parametrize("scales", [(4.0, 1.0), (1.0, 4.0)])
def test_the_tensor_that_matters_gets_finer_steps_whatever_its_curvature_was_thought_to_be(
    scales: tuple[float, float],
) -> None:
    grids, scratch, (x,) = chain(scales)

    def outputs(values: Tensor) -> Tensor:
        return sum((s * x @ w.view(8, 8).T for s, w in zip(scales, values.split(64), strict=True)), torch.zeros(()))

    exact = outputs(torch.cat([grids.weights(0), grids.weights(1)]))
    changes = OutputChanges([exact], distiller_of("mse", exact))
    wrong = {"a": 1.0, "b": 1.0}
    found = allocated(grids, wrong, 500.0, scratch, lambda: [outputs(scratch)], changes)
    assert len(changes.costs) == 2 * len(OCTAVES)
    assert (found["a"] > 2 * found["b"]) == (scales[0] > scales[1])
    start_at(grids, found, 500.0, scratch)
    after = (outputs(scratch) - exact).square().mean()
    start_at(grids, wrong, 500.0, scratch)
    assert after < (outputs(scratch) - exact).square().mean()


def test_a_file_starts_from_measured_losses(tmp_path: Path) -> None:
    options = Options(iterations=5, allocation="measured")
    report = noworse.compress_task(
        task(ConvNet(), 1, 12, 12), tmp_path / "a.nwt", target=8.0, tolerance=None, options=options
    )
    assert report.size <= report.original_size / 8
    assert Options.from_json(options.to_json()) == options


@pytest.mark.parametrize("given", [{"allocation": "best"}, {"allocation": "measured", "per_channel": True}])
def test_bad_input(given: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="option allocation"):
        Options(**given)  # type: ignore[arg-type]
