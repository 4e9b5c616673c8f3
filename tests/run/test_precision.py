from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.run.precision import FIRST_SCALE, GROW_AFTER, SMALLEST_SCALE, LossScaler, Precision
from noworse.tune.options import Options
from tests.tiny import ConvNet, mlp, run, task


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_ends_where_float32_does(precision: str, tmp_path: Path) -> None:
    """Rounding differs, the outcome does not: same size, and intervals of the loss that overlap."""
    job = task(ConvNet(), 1, 12, 12)
    full = run(job, tmp_path / "x.nwt", 12, iterations=60)
    half = run(job, tmp_path / "y.nwt", 12, iterations=60, precision=precision)
    assert half.size == pytest.approx(full.size, rel=0.01)
    assert half.verdict.lower_bound < full.verdict.upper_bound
    assert half.settings["precision"] == precision


def test_what_is_tuned_stays_float32(tmp_path: Path) -> None:
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(20, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            seen.append((self.layer.weight.dtype, out.dtype))
            return out

    run(task(Spy().eval()), tmp_path / "x.nwt", "300B", iterations=5, precision="bf16", rounding="nearest")
    assert {weight for weight, _ in seen} == {torch.float32}
    assert {out for _, out in seen} == {torch.float32, torch.bfloat16}


def test_an_operation_without_half_precision_is_a_bad_input() -> None:
    def run() -> None:
        raise RuntimeError('"cholesky_cpu" not implemented for \'Half\'\nmore')

    with pytest.raises(BadInput, match="precision 'fp16' cannot be used for this model on cpu: \"cholesky_cpu\" not"):
        Precision("fp16", "cpu").require(run)
    Precision("fp32", "cpu").require(run)  # not even tried


def test_unknown_precision() -> None:
    with pytest.raises(BadInput, match="precision must be one of fp32, bf16, fp16, found 'fp8'"):
        Options(precision="fp8")


def test_the_scale_falls_on_overflow_and_rises_after_many_good_gradients() -> None:
    scaler = LossScaler("fp16")
    bad, good = torch.tensor([torch.inf, 1.0]), torch.tensor([FIRST_SCALE, 1.0])
    scaler.unscale_(good)
    assert scaler.usable
    assert good.tolist() == [1.0, 1 / FIRST_SCALE]
    scaler.unscale_(bad)
    assert not scaler.usable
    assert scaler.scale == FIRST_SCALE / 2
    for _ in range(GROW_AFTER):
        scaler.unscale_(torch.ones(2))
    assert scaler.usable
    assert scaler.scale == FIRST_SCALE
    while scaler.scale > SMALLEST_SCALE:
        scaler.unscale_(torch.tensor([torch.nan]))
    with pytest.raises(BadInput, match="no finite gradients at any scale"):
        scaler.unscale_(torch.tensor([torch.nan]))


def test_float32_is_not_scaled() -> None:
    scaler, gradient = LossScaler("fp32"), torch.tensor([torch.inf])
    scaler.unscale_(gradient)
    assert scaler.usable
    assert scaler.scale == 1


def test_the_callers_model_keeps_its_precision(tmp_path: Path) -> None:
    model = mlp()
    run(task(model), tmp_path / "x.nwt", 12, iterations=3, precision="bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
