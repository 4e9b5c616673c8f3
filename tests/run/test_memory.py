from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.run.memory import blocks, recompute_blocks
from tests.tiny import mlp, run, task

FREED = """
from pathlib import Path
import ctypes
from noworse.run.memory import trim
def resident():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
blocks = [bytearray(b"x" * 100_000) for _ in range(1000)]
last = bytearray(b"x" * 100_000)  # keeps the heap from shrinking by itself
before = resident()
del blocks
trim()
print(before - resident())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts pages as Linux does")
def test_what_was_freed_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) > 50_000  # of 100,000 kB


def test_tuning_needs_no_compiler() -> None:
    program = (
        "import sys, torch; from noworse.tune.adam import Adam; leaf = torch.ones(3); leaf.grad = leaf.clone();"
        "Adam([{'params': [leaf]}]).step(); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 20))
        self.calls = 0

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        self.calls += 1
        return x + scale * self.body(x)  # type: ignore[no-any-return]


class Stack(nn.Module):
    """Two stages, a list of layers, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stages = nn.Sequential(nn.Sequential(Residual(), Residual()), nn.Sequential(Residual()))
        self.layers = nn.ModuleList([Residual(), nn.Sequential(nn.Linear(20, 20), nn.Tanh()), nn.Identity()])
        self.head = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[1](self.layers[0](self.stages(x), scale=0.5))
        return self.head(x)  # type: ignore[no-any-return]


def test_blocks_are_the_outermost_composite_children() -> None:
    net = Stack()
    residuals = [module for module in net.modules() if isinstance(module, Residual)]
    assert list(blocks(net)) == [*residuals, net.layers[1]]


def test_gradients_are_the_same_bits_and_blocks_run_twice() -> None:
    x = torch.randn(8, 20)
    plain, wrapped = Stack(), Stack()
    assert recompute_blocks(wrapped) == 5
    for net in (plain, wrapped):
        net(x).square().sum().backward()
    for a, b in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]
    calls = [[m.calls for m in net.modules() if isinstance(m, Residual)] for net in (plain, wrapped)]
    assert calls == [[1] * 4, [2] * 4]
    with torch.no_grad():
        wrapped(x)
    assert wrapped.layers[0].calls == 3, "without gradients nothing is computed twice"


def test_less_is_kept_for_backward() -> None:
    def kept(net: nn.Module) -> int:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.randn(64, 20))
        return sum(sizes)

    net = Stack()
    before = kept(net)
    recompute_blocks(net)
    assert kept(net) < 0.6 * before


def test_a_compression_with_it(tmp_path: Path) -> None:
    model = Stack().eval()
    report = run(task(model), tmp_path / "x.nwt", 8, iterations=20, checkpointing=True)
    assert report.ratio == pytest.approx(8, rel=0.02)
    assert report.verdict.mean_difference < 0.1
    assert all("forward" not in vars(module) for module in model.modules()), "the caller's model is as it was"


def test_a_model_without_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="found no blocks: expected composite children"):
        run(task(mlp()), tmp_path / "x.nwt", 12, checkpointing=True)
