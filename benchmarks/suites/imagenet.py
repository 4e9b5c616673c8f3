"""The L² paper's table on ImageNet, for who has the images and the checkpoints.

``python -m benchmarks.imagenet --imagenet DIR --checkpoints DIR [--only MODEL ...] [--ratios 10 20] [--calib 1000]``

Layout of the images: zoo/imagenet.py. Of each model, ``--checkpoints`` holds one file (.pth or .safetensors) whose name
begins as PATTERNS says, from the library that ``zoo.architectures`` names. Calibration takes no labels, and no image
that judges. What the paper's abstract claims: 10x "without sacrificing accuracy", 20x "with minor accuracy loss". Its
ratios count fewer things than a file holds, so both are reported: by the size of the whole file, and by
the rule of the paper's code (``narrow_ratio``).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse as nw
from benchmarks.harness import Row, Run, Suite, suite
from benchmarks.suites.codec_symbols import entropy_bits
from noworse.checkpoint import open_checkpoint
from noworse.errors import BadInput
from noworse.format import File
from noworse.representation import Constant, Grid, Tied
from zoo import imagenet
from zoo.architectures import ARCHITECTURES, Architecture

PATTERNS = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenetv2": "mobilenet",
    "mnasnet1_0": "mnasnet1",
    "mnasnet2_0": "mnasnet2",
    "regnetx_600m": "regnetx_006",
    "regnetx_3200m": "regnetx_032",
    "vit_b_16": "vit_base_patch16",
}
SYMBOL_BITS, WORD = 96, 32  # per distinct symbol of a tensor, and per word of its payload, in the paper's code
Batch = tuple[Tensor, Tensor]


def narrow_ratio(path: Path) -> float:
    """The ratio by the rule of the paper's code: float32 weights and biases over their payload and symbol tables alone.

    A payload is the ideal order-0 code length in whole words; every distinct symbol costs 12 bytes. Names, shapes,
    statistics of batch norms and parameters that are neither weight nor bias count on neither side.
    """
    elements = bits = 0
    with File(path) as file:
        for name in file.names:
            item = file.representation(name)
            if name.rpartition(".")[2] not in ("weight", "bias") or isinstance(item, Tied):
                continue
            count = int(np.prod(item.shape))
            elements += count
            if isinstance(item, Grid):
                words = int(np.ceil(entropy_bits(item.codes) / WORD))
                bits += WORD * words + SYMBOL_BITS * len(np.unique(item.codes))
            else:
                bits += SYMBOL_BITS if isinstance(item, Constant) else 8 * file.tensor_bytes(name)
    return 32 * elements / bits


def load_checkpoint(name: str, folder: Path) -> nn.Module:
    """The net with the weights of its file in ``folder``; BadInput where there is none, or one that does not fit."""
    files = sorted(path for path in folder.glob(f"{PATTERNS[name]}*") if path.suffix in (".pth", ".pt", ".safetensors"))
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise BadInput(f"checkpoint of {name} in {folder}: found {found}, expected one {PATTERNS[name]}*.pth")
    model, checkpoint = ARCHITECTURES[name].make().eval(), open_checkpoint(files[0])
    state = model.state_dict()
    if set(state) - set(checkpoint.headers):
        missing = sorted(set(state) - set(checkpoint.headers))
        raise BadInput(f"{files[0]} lacks {len(missing)} tensors of {name}: {', '.join(missing[:4])}, ...")
    for key, tensor in state.items():
        value = torch.from_numpy(checkpoint.read(key))
        if value.shape != tensor.shape:
            raise BadInput(f"{files[0]}: {key} is {tuple(value.shape)}, expected {tuple(tensor.shape)}")
        tensor.copy_(value)
    return model


@dataclass(frozen=True)
class Reader:
    """How a net sees images that are kept as bytes, four times smaller than float32."""

    architecture: Architecture

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, 1000)."""
        mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (self.architecture.mean, self.architecture.deviation))
        return model((batch[0].float() / 255 - mean) / deviation)  # type: ignore[no-any-return]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy in nats, (B,)."""
        return F.cross_entropy(self.forward(model, batch), batch[1], reduction="none")

    @torch.no_grad()
    def top1(self, model: nn.Module, batches: list[Batch]) -> float:
        """Share of images classified right, in per cent."""
        right = torch.cat([self.forward(model, batch).argmax(1) == batch[1] for batch in batches])
        return 100 * float(right.double().mean())


def mirror(batch: Batch) -> Batch:
    """A random flip of every image."""
    coins = torch.rand(len(batch[0]), 1, 1, 1) < 0.5
    return torch.where(coins, batch[0].flip(3), batch[0]), batch[1]


def rows_of(name: str, run: Run) -> Iterator[Row]:
    """Compress one model at every ratio."""
    options = run.options
    architecture = ARCHITECTURES[name]
    model, reader = load_checkpoint(name, options.checkpoints), Reader(architecture)
    shape = architecture.short_side, architecture.side, architecture.cubic
    parts = imagenet.divide(options.imagenet, options.calib, options.verify)
    calib, verify = (imagenet.read(files, *shape, batch=options.batch) for files in parts)
    task = nw.Task(
        model=model, loss=reader.loss, calib=calib, verify=verify, metric=reader.top1, forward=reader.forward,
        augment=mirror, name=name,
    )  # fmt: skip
    settings = nw.Options(iterations=0 if run.quick else options.iterations, batch=options.batch)
    for ratio in options.ratios:
        path = run.folder / f"{name}_{ratio:g}.nwt"
        begin = time.monotonic()
        report = nw.compress_task(task, path, target=ratio, tolerance=None, options=settings)
        title, verdict = f"{name} at {ratio:g}", report.verdict
        before, after = verdict.metric_original, verdict.metric_compressed
        assert before is not None
        assert after is not None
        yield Row(f"{title}: top-1 of the original", before, "%")
        yield Row(f"{title}: top-1 of the file", after, "%")
        yield Row(f"{title}: drop", before - after, "points")
        yield Row(f"{title}: loss difference, upper bound", verdict.upper_bound, "nats")
        yield Row(f"{title}: file", report.size, "bytes")
        yield Row(f"{title}: ratio of the whole file", report.ratio, "x", f">= {ratio:g}")
        yield Row(f"{title}: ratio by the paper's rule", narrow_ratio(path), "x")
        yield Row(f"{title}: time", time.monotonic() - begin, "s")


def arguments_of(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark alone."""
    parser.add_argument("--imagenet", type=Path, required=True, help="folder with val and, better, train")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder with one file per model")
    parser.add_argument("--models", dest="only", nargs="+", choices=sorted(PATTERNS), help="the same as --only")
    parser.add_argument("--ratios", nargs="+", type=float, default=[10.0, 20.0])
    parser.add_argument("--calib", type=int, default=1000, help="unlabelled images that choose (%(default)s)")
    parser.add_argument("--verify", type=int, help="images of val that judge (default: all)")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32)


def section(name: str, run: Run) -> Iterator[Row]:
    """The rows of one model; the program ends with a sentence where a folder does not hold what it needs."""
    for what, folder in (("--imagenet", run.options.imagenet), ("--checkpoints", run.options.checkpoints)):
        if not folder.is_dir():
            sys.exit(f"{what} {folder} is no folder: ImageNet and checkpoints are not part of this repository")
    try:
        yield from rows_of(name, run)
    except BadInput as error:
        sys.exit(str(error))


def main(arguments: Sequence[str] | None = None) -> None:
    sections = {name: partial(section, name) for name in PATTERNS}
    suite.main(Suite("imagenet", __doc__, sections, arguments=arguments_of), arguments)


if __name__ == "__main__":
    main()
