"""What a few extreme elements cost a tensor and its other elements, with a list of them in the file and without.

Without a list means that no element is called an outlier. Errors are those of the other elements at equal size of the
file, sizes are at equal error; both are relative to the same tensor without extreme elements. Where there are none, the
list must cost nothing.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

import noworse as nw
from benchmarks.harness import Row, Run, Suite, main
from noworse.datafree import survey
from noworse.propose.grids import specs
from zoo.fitting import WEIGHTS

Floats = NDArray[np.float32]
KEPT, FREE, SAME = "<= 1.05", "<= 0.001", "<= 0.001"  # of errors, of sizes, of KL in nats
COUNTS = (1, 10)
TARGET = "6 bits"


@contextlib.contextmanager
def rule(listed: bool) -> Iterator[None]:
    """Outliers are looked for, or not."""
    with contextlib.ExitStack() as stack:
        for module in () if listed else (survey, specs):
            stack.enter_context(mock.patch.object(module, "largest_of_others", return_value=np.inf))
        yield


def tensors() -> dict[str, tuple[Floats, float]]:
    """Tensors without extreme elements by what they are like, and how large extreme ones are."""
    rng = np.random.default_rng(0)
    return {
        "convolution 64x64x3x3": (rng.laplace(scale=0.05, size=(64, 64, 3, 3)).astype(np.float32), 1e3),
        "matrix 48x48": (rng.normal(scale=0.1, size=(48, 48)).astype(np.float32), 1e5),
        "RMSNorm 4096": ((0.5 * rng.lognormal(sigma=0.25, size=4096)).astype(np.float32), 60.0),
        "bias 64": (rng.normal(size=64).astype(np.float32), -1e4),
    }


def packed(tensor: Floats, **how: float | str) -> tuple[int, Floats]:
    """The size of a file that holds the tensor beside an ordinary matrix, and the tensor as it comes back."""
    from safetensors.numpy import save_file

    beside = np.random.default_rng(1).normal(scale=0.1, size=(128, 128)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "a.safetensors", Path(folder) / "a.nwt"
        save_file({"w": tensor, "beside": beside}, source)
        size = nw.compress_file(source, out, **how).size  # type: ignore[arg-type]
        return size, nw.load_file(out, framework="np")["w"]


def data_free(run: Run) -> Iterator[Row]:
    """Tensors with 1 and with 10 extreme elements."""
    for name, (plain, large) in run.few(list(tensors().items())):
        for count in COUNTS:
            at = np.random.default_rng(count).choice(plain.size, min(count, 1 + plain.size // 20), replace=False)
            others = np.delete(np.arange(plain.size), at)
            far = plain.copy()
            far.flat[at] = large * np.linspace(1, 2, len(at))

            def errors(tensor: Floats, listed: bool, others: NDArray[np.int64] = others) -> float:
                with rule(listed):
                    found = packed(tensor, target=TARGET)[1]
                return float(np.abs(found - tensor).reshape(-1)[others].max())

            base = errors(plain, True)
            what = f"{name}, {len(at)} extreme"
            yield Row(f"{what}: largest error of others, listed", errors(far, True) / base, "x", KEPT)
            yield Row(f"{what}: largest error of others, no list", errors(far, False) / base, "x")
            bound = float(np.abs(plain).mean() / 20)
            size, _ = packed(plain, max_error=bound)
            with rule(True):
                listed, _ = packed(far, max_error=bound)
            yield Row(f"{what}: bytes of the list", listed - size, "bytes", f"<= {8 * len(at) + 16}")


def without_any(run: Run) -> Iterator[Row]:
    """Nets without extreme elements: files with and without the rule."""
    for name in run.few(["lenet5", "resnet20", "mobilenetv2", "vit_tiny"]):
        sizes = []
        for listed in (True, False):
            with tempfile.TemporaryDirectory() as folder, rule(listed):
                out = Path(folder) / "a.nwt"
                nw.compress_file(WEIGHTS / f"{name}.safetensors", out, max_error="1%")
                sizes.append(out.read_bytes())
        cost = 1.0 if sizes[0] != sizes[1] else 0.0
        yield Row(f"{name}: files that differ", cost, "files", "<= 0")
        yield Row(f"{name}: cost of the rule", len(sizes[0]) / len(sizes[1]) - 1, "share", FREE)


def net(count: int) -> nn.Module:
    """An MLP with so many weights of 1,000 and more in one layer."""
    torch.manual_seed(0)
    middle = nn.Linear(48, 48)
    with torch.no_grad():
        for i in range(count):
            middle.weight[4 * i, 5 + i] = 1e3 * (1 + i)
    return nn.Sequential(nn.Linear(20, 48), nn.ReLU(), middle, nn.Tanh(), nn.Linear(48, 4)).eval()


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    """Cross-entropy, (B,)."""
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def fitted(run: Run) -> Iterator[Row]:
    """Divergence of an MLP at 8 bits a weight, tuned."""
    for count in run.few((0, *COUNTS), 2):
        model = net(count)
        x = torch.randn(512, 20, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            batches = [(part, model(part).argmax(1)) for part in torch.split(x, 64)]
        for listed in (True, False) if count else (True,):
            with tempfile.TemporaryDirectory() as folder, rule(listed):
                report = nw.compress(
                    model,
                    loss=loss,
                    calib=batches[:4],
                    verify=batches[4:],
                    out=Path(folder) / "a.nwt",
                    target=4,
                    tolerance=None,
                    options=nw.Options(iterations=10 if run.quick else 20),
                    progress=None,
                )
            way = "listed" if listed else "no list"
            lost = report.verdict.mean_kl or 0.0
            yield Row(f"MLP at 4x, {count} extreme, {way}", lost, "nats", SAME if listed else "")


SUITE = Suite("outliers", __doc__, {"data-free": data_free, "none": without_any, "fitted": fitted})

if __name__ == "__main__":
    main(SUITE)
