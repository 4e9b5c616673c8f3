"""Which ImageNet images choose and judge, from both layouts of its folders, and what is cut out of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from noworse.errors import BadInput
from zoo.imagenet import divide, listed, pixels, read

Image = pytest.importorskip("PIL.Image")


def picture(file: Path, width: int = 60, height: int = 40, value: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None] * 4, (height, width, 3))
    Image.fromarray(columns + np.uint8(value)).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label, kind in enumerate(("n01", "n02", "n03")):
        for number in range(10):
            picture(tmp_path / "val" / kind / f"{number}.JPEG", value=label)
            picture(tmp_path / "train" / kind / f"{number}.JPEG", value=label)
    return tmp_path


def test_calibration_images_are_of_train_and_of_every_class(root: Path) -> None:
    calib, verify = divide(root, 6, None)
    assert sorted(label for _, label in calib) == [0, 0, 1, 1, 2, 2]
    assert {file.parts[-3] for file, _ in calib} == {"train"}
    assert len(set(verify)) == 30
    assert {file.parts[-3] for file, _ in verify} == {"val"}
    assert divide(root, 6, None) == (calib, verify)


def test_without_train_no_image_both_chooses_and_judges(root: Path) -> None:
    (root / "train").rename(root / "elsewhere")
    calib, verify = divide(root, 12, None)
    assert len(calib) == 12
    assert len(verify) == 18
    assert not set(calib) & set(verify)
    with pytest.raises(BadInput, match=r"has 12 and 18 images for that: expected 12 .* and 19 to judge"):
        divide(root, 12, 19)


def test_labels_come_from_a_list_beside_a_flat_folder(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "val" / f"{number}.JPEG")
    (tmp_path / "val.txt").write_text("0.JPEG 65\n1.JPEG 970\n2.JPEG 0\n")
    assert [label for _, label in listed(tmp_path / "val")] == [65, 970, 0]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no ImageNet images in .*val: expected CLASS/\*\.JPEG in it"):
        listed(tmp_path / "val")


def test_the_centre_of_the_resized_image_is_cut_out(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    cut = pixels(tmp_path / "a.png", 40, 20)
    assert cut.dtype == torch.uint8
    assert cut[0, 0].tolist() == [4 * column for column in range(20, 40)]
    assert torch.equal(pixels(tmp_path / "a.png", 40, 20, (0.0, 1.0))[0, 0], torch.arange(20, dtype=torch.uint8) * 4)
    assert pixels(tmp_path / "a.png", 20, 20, cubic=False).shape == (3, 20, 20)
    batches = read([(tmp_path / "a.png", 7)] * 5, 40, 20, False, batch=2)
    assert [tuple(images.shape) for images, _ in batches] == [(2, 3, 20, 20), (2, 3, 20, 20), (1, 3, 20, 20)]
    assert batches[2][1].tolist() == [7]
