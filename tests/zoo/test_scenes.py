from __future__ import annotations

import torch

from zoo import scenes


def test_boxes_hold_their_items_and_hardly_overlap() -> None:
    pixels, boxes, classes = scenes.draw("calib", 40, seed=5)
    assert pixels.shape == (40, 1, 96, 96)
    lit = pixels > pixels.min() + 0.4
    for scene, places, kinds in zip(lit[:, 0], boxes, classes, strict=True):
        count = int((kinds >= 0).sum())
        assert 1 <= count <= scenes.MOST
        assert (kinds[count:] == -1).all()
        inside = torch.zeros_like(scene)
        for k, place in enumerate(places[:count]):
            x0, y0, x1, y1 = place.int().tolist()
            assert 0 <= x0 < x1 <= 96
            assert 0 <= y0 < y1 <= 96
            assert max(x1 - x0, y1 - y0) <= scenes.SCALES[1]
            inside[y0:y1, x0:x1] = True
            assert scene[y0:y1, x0:x1].any()
            if k:
                assert float(scenes.covered(place, places[:k]).max()) <= scenes.OVERLAP
        assert not (scene & ~inside).any()


def test_scenes_repeat_and_differ_by_seed() -> None:
    first, again, other = (scenes.draw("calib", 5, seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_covered_by_hand() -> None:
    box = torch.tensor([0.0, 0.0, 10.0, 10.0])
    others = torch.tensor([[5.0, 5.0, 10.0, 10.0], [5.0, 0.0, 25.0, 10.0], [10.0, 0.0, 20.0, 10.0]])
    assert scenes.covered(box, others).tolist() == [1.0, 0.5, 0.0]


def test_tight_box_by_hand() -> None:
    item = torch.zeros(6, 8)
    item[2:4, 3:8] = 1
    assert scenes.tight_box(item) == (3, 2, 8, 4)
    assert scenes.tight_box(torch.zeros(6, 8)) == (0, 0, 8, 6)
