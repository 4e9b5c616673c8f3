"""ImageNet from a folder that the user has: which images calibrate and which judge, and their pixels.

Expects ``val/CLASS/*.JPEG`` (classes in sorted order have the labels 0, 1, ...), or ``val/*.JPEG`` beside a ``val.txt``
with lines "name label"; the same for ``train``, which may be absent.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

import torch
from torch import Tensor

from noworse.errors import BadInput

Labelled = tuple[Path, int]
ENDINGS = (".jpeg", ".jpg", ".png")


def pixels(file: Path, short_side: int, side: int, place: Sequence[float] = (0.5, 0.5), cubic: bool = True) -> Tensor:
    """(3, side, side) uint8: resized to ``short_side``, cut at ``place`` (shares of the free room; default: centre)."""
    from PIL import Image

    with Image.open(file) as image:
        scale = short_side / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        kind = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
        resized = image.convert("RGB").resize(size, kind)
    left, top = (round(share * (length - side)) for share, length in zip(place, size, strict=True))
    content = bytearray(resized.crop((left, top, left + side, top + side)).tobytes())
    return torch.frombuffer(content, dtype=torch.uint8).view(side, side, 3).permute(2, 0, 1).contiguous()


def listed(folder: Path) -> list[Labelled]:
    """All images of ``val`` or ``train`` with their labels; BadInput where there are none."""
    labels = folder.with_name(folder.name + ".txt")
    found: list[Labelled] = []
    if folder.is_dir():
        for label, kind in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
            found += [(file, label) for file in sorted(kind.iterdir()) if file.suffix.lower() in ENDINGS]
        if not found and labels.is_file():
            lines = (line.split() for line in labels.read_text().splitlines() if line.strip())
            found = [(folder / name, int(label)) for name, label in lines]
    if not found:
        expected = f"expected CLASS/*.JPEG in it, or *.JPEG and {labels.name} beside it"
        raise BadInput(f"no ImageNet images in {folder}: {expected}")
    return found


def divide(root: Path, calib: int, verify: int | None, seed: int = 0) -> tuple[list[Labelled], list[Labelled]]:
    """``calib`` images that choose and ``verify`` (None: all) that judge, never the same; drawn with ``seed``.

    Calibration images are of ``train``, as evenly from all classes as can be, where there is that folder, else of
    ``val``. BadInput where there are not enough.
    """
    shuffled = listed(root / "val")
    random.Random(seed).shuffle(shuffled)
    if (root / "train").is_dir():
        chosen, rest = evenly(listed(root / "train"), calib, seed), shuffled
    else:
        chosen, rest = shuffled[:calib], shuffled[calib:]
    judging = rest if verify is None else rest[:verify]
    if len(chosen) < calib or not judging or len(judging) < (verify or 0):
        wanted = f"{calib} images to calibrate and {verify or 'some'} to judge"
        raise BadInput(f"{root} has {len(chosen)} and {len(judging)} images for that: expected {wanted}")
    return chosen, judging


def evenly(files: Sequence[Labelled], count: int, seed: int) -> list[Labelled]:
    """The first ``count`` when every class gives one image after the other, in random order."""
    classes: dict[int, list[Labelled]] = {}
    for entry in files:
        classes.setdefault(entry[1], []).append(entry)
    generator = random.Random(seed)
    for members in classes.values():
        generator.shuffle(members)
    turns = chain.from_iterable(zip_longest(*classes.values()))
    return [entry for entry in turns if entry is not None][:count]


def read(files: Sequence[Labelled], short_side: int, side: int, cubic: bool, batch: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of centre crops (B, 3, side, side) uint8 and labels (B,) int64."""
    batches = []
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        images = torch.stack([pixels(file, short_side, side, cubic=cubic) for file, _ in part])
        batches.append((images, torch.tensor([label for _, label in part])))
    return batches
