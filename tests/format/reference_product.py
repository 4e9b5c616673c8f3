"""Products of two grids, one term at a time: part of the second reader."""

from __future__ import annotations

import numpy as np

from tests.format.reference_curve import minifloat


def points(t: dict) -> np.ndarray:
    """What the codes of a factor stand for, in 1/64 of its step."""
    codes = np.array(t["parts"][0]["symbols"][t["at"] : t["at"] + t["size"]], np.float64)
    return (np.sign(codes) * (64 * np.abs(codes) - 32 + t["edge"])).reshape(t["shape"])


def product(t: dict, left: np.ndarray, right: np.ndarray) -> list[float]:
    unit = minifloat(t["factors"][0]["step"]) * minifloat(t["factors"][1]["step"]) / 4096
    sums = np.zeros((len(left), right.shape[1]))
    for k in range(len(right)):
        sums = sums + np.outer(left[:, k], right[k])
    with np.errstate(over="ignore"):
        flat = sums * unit
    if t["value"] == b"\1":
        o, c, h, w = t["shape"]
        flat = flat.reshape(o, w, c, h).transpose(0, 2, 3, 1)
    return flat.reshape(-1).tolist()
