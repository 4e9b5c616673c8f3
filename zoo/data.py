"""Fashion-MNIST (Xiao et al. 2017, MIT licence): the embedded part, and the full training set on request.

Embedded in ``data/fashion_mnist.npz``: the whole 10,000-image test set and the first 4,000 training images. The full
60,000 come from Debian's package ``dataset-fashion-mnist``: ``python -m zoo.data`` unpacks it (no root needed).
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HERE = Path(__file__).parent
EMBEDDED = HERE / "data" / "fashion_mnist.npz"
FULL = HERE / "data" / "fashion_mnist_full.npz"
EMBEDDED_TRAIN = 4000
DEVELOPMENT = 5000  # the last training images: never trained on, where settings of ours are chosen
MEAN, STD = 0.2860, 0.3530  # of the training pixels


def normalise(images: NDArray[np.uint8]) -> Tensor:
    """(N, 28, 28) uint8 pixels -> (N, 1, 28, 28) float32 of mean 0 and deviation 1."""
    return (torch.from_numpy(images).float().div_(255).sub_(MEAN).div_(STD)).unsqueeze(1)


def load(split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) float32 and labels (N,) int64 of ``"test"``, ``"calib"`` (embedded training images),
    ``"train"`` or ``"development"`` (these two need the full set, see ``fetch``)."""
    if split in ("test", "calib"):
        with np.load(EMBEDDED) as data:
            prefix = "test" if split == "test" else "train"
            return normalise(data[f"{prefix}_images"]), torch.from_numpy(data[f"{prefix}_labels"].astype(np.int64))
    if split not in ("train", "development"):
        raise ValueError(f"unknown split {split!r}: expected test, calib, train or development")
    if not FULL.exists():
        raise FileNotFoundError(f"{FULL} is missing: run `python -m zoo.data` to fetch the full training set")
    rows = slice(None, -DEVELOPMENT) if split == "train" else slice(-DEVELOPMENT, None)
    with np.load(FULL) as data:
        return normalise(data["images"][rows]), torch.from_numpy(data["labels"][rows].astype(np.int64))


def _idx(path: Path, offset: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)


def fetch() -> None:
    """Download Debian's package of Fashion-MNIST, unpack it and write the full and the embedded file."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "dataset-fashion-mnist"], cwd=folder, check=True)
        (package,) = Path(folder).glob("dataset-fashion-mnist_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), folder], check=True)
        source = Path(folder) / "usr/share/datasets/fashion-mnist"
        images = {p: _idx(source / f"{p}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28) for p in ("train", "t10k")}
        labels = {p: _idx(source / f"{p}-labels-idx1-ubyte.gz", 8) for p in ("train", "t10k")}
    FULL.parent.mkdir(exist_ok=True)
    np.savez(FULL, images=images["train"], labels=labels["train"])
    if not EMBEDDED.exists():
        np.savez_compressed(
            EMBEDDED,
            test_images=images["t10k"],
            test_labels=labels["t10k"],
            train_images=images["train"][:EMBEDDED_TRAIN],
            train_labels=labels["train"][:EMBEDDED_TRAIN],
        )


if __name__ == "__main__":
    fetch()
    print(f"wrote {FULL}", file=sys.stderr)
