from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.export.onnx import export_onnx
from noworse.jobs.quantize import Quantization, quantize_task
from tests.tiny import ConvNet, mlp, task

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


def run(path: Path, x: Tensor, integers: bool = True) -> Tensor:
    options = runtime.SessionOptions()
    if integers:  # exact sums on processors with AVX2 alone, whose faster instruction saturates
        options.add_session_config_entry("session.x64quantprecision", "1")
    return torch.from_numpy(runtime.InferenceSession(str(path), options).run(None, {"input": x.numpy()})[0])


def test_weights_of_recurrent_layers_stay_float_with_their_rounded_values(tmp_path: Path) -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.head = nn.GRU(5, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])  # type: ignore[no-any-return]

    bits = {"rnn.weight_ih_l0": 8, "rnn.weight_hh_l0": 4, "head": 8}
    found = quantize_task(task(Reader().eval(), 6, 5), bits=bits, activations=False, tolerance=None)
    export_onnx(found, torch.zeros(2, 6, 5), tmp_path / "a.onnx")
    assert weights_of(tmp_path / "a.onnx") == 8 * 32
    x = torch.randn(500, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(run(tmp_path / "a.onnx", x, False), found.module(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activations", [True, False])
def test_the_file_predicts_what_the_module_does(tmp_path: Path, activations: bool) -> None:
    job = task(ConvNet(), 1, 12, 12)
    found = quantize_task(job, bits={"conv1": 8, "conv2": 4, "fc": 6}, activations=activations, tolerance=None)
    size = export_onnx(found, torch.zeros(2, 1, 12, 12), tmp_path / "a.onnx")
    assert size == (tmp_path / "a.onnx").stat().st_size
    x = torch.randn(10_000, 1, 12, 12)
    with torch.no_grad():
        same = (run(tmp_path / "a.onnx", x, activations).argmax(1) == found.module(x).argmax(1)).float().mean()
    assert float(same) >= 0.999


def weights_of(path: Path) -> int:
    kinds = {onnx.TensorProto.INT8: 8, onnx.TensorProto.INT4: 4}
    found = (i for i in onnx.load(path).graph.initializer if i.name.endswith(".codes"))
    return sum(kinds[i.data_type] * int(np.prod(i.dims)) for i in found)


def test_a_file_is_as_small_as_its_bits(tmp_path: Path) -> None:
    job = task(mlp(512))
    sizes = {}
    for bits in (4, 8):
        found: Quantization = quantize_task(job, bits={"0": bits, "2": bits}, tolerance=None)
        sizes[bits] = export_onnx(found, torch.zeros(2, 20), tmp_path / "a.onnx")
        assert weights_of(tmp_path / "a.onnx") == bits * (20 * 512 + 512 * 4)
    assert abs(sizes[8] - sizes[4] - (20 * 512 + 512 * 4 + 512 + 4) // 2) <= 8  # zero points too; lengths of lengths


def test_what_integers_cannot_do_is_refused(tmp_path: Path) -> None:
    found = quantize_task(task(mlp()), bits=8, activations=6, tolerance=None)
    with pytest.raises(BadInput, match="6 bits, rounded nearest: expected 8"):
        export_onnx(found, torch.zeros(2, 20), tmp_path / "a.onnx")


def check_outputs(model: nn.Module, tmp_path: Path, *shape: int, integers: bool = True, **extras: Any) -> None:
    names = [n for n, layer in model.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    found = quantize_task(task(model, *shape, **extras), bits=dict.fromkeys(names, 8), tolerance=None, progress=None)
    export_onnx(found, torch.zeros(2, *shape), tmp_path / "a.onnx")
    x = torch.randn(50, *shape)
    with torch.no_grad():
        expected = found.module(x)
    assert float((run(tmp_path / "a.onnx", x, integers) - expected).abs().max()) < 0.02 * float(expected.abs().max())
    assert weights_of(tmp_path / "a.onnx") > 0


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_weights_of_two_layers(tmp_path: Path, value: float) -> None:
    model: Any = nn.Sequential(nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 4))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(value * torch.eye(20))
    check_outputs(model, tmp_path, 20, integers=False)  # onnxruntime's option for exact sums fails on shared weights


@pytest.mark.parametrize(("affine", "keep"), [(False, ()), (True, ("norm.*",))])
def test_norms_that_are_not_folded(tmp_path: Path, affine: bool, keep: tuple[str, ...]) -> None:
    model: Any = nn.Sequential()
    model.add_module("conv", nn.Conv2d(1, 6, 3))
    model.add_module("norm", nn.BatchNorm2d(6, affine=affine))
    model.norm.running_var.fill_(0.2)
    for name, layer in (("relu", nn.ReLU()), ("flat", nn.Flatten()), ("fc", nn.Linear(216, 4))):
        model.add_module(name, layer)
    check_outputs(model, tmp_path, 1, 8, 8, keep=keep)
