"""Which share of the chance of error the first of three looks should spend, by simulation.

A search within a tolerance predicts where the upper bound meets the tolerance, from held-back calibration samples, and
aims there; a look that fails is followed by a file 15 % larger. What a share costs is the size at which the search
ends, relative to spending everything on a single look that always passes; a search that fails at every look ends at
one more back-off. Losses fall with the 3.4th power of the bits, as in ``noworse.search``.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

STEEPNESS, BACK_OFF, CAUTION, LOOKS, ALPHA = 3.4, 1.15, 1.2, 3, 0.05
SHARES = (0.34, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TRIALS = 200_000


def expected_size(first: float, spread: float, seed: int = 0) -> tuple[float, float]:
    """Return the mean relative size at the end, and how often the first look passes.

    ``first`` is the share of alpha at the first look; ``spread`` the standard error of the held-out mean relative to
    the tolerance (that of the prediction is twice as large: calib's held-back part has a quarter of the samples).
    """
    draws = np.random.default_rng(seed)
    shares = np.array([first, *[(1 - first) / (LOOKS - 1)] * (LOOKS - 1)])
    quantiles = norm.isf(ALPHA * shares)
    aimed = max(1 - CAUTION * quantiles[0] * spread, 0.02)  # predicted mean loss where the predicted bound is 1
    steepness, luck_of_calib = draws.standard_normal((2, TRIALS))
    true = np.maximum(aimed * (1 + 0.3 * steepness) + 2 * spread * luck_of_calib, 1e-3)
    size = np.full(TRIALS, aimed ** (-1 / STEEPNESS))
    luck = spread * draws.standard_normal(TRIALS)  # of the held-out samples: the same at every look
    open_, passed = np.ones(TRIALS, bool), []
    for quantile in quantiles:
        passes = true + luck + quantile * spread <= 1
        passed.append(float(passes[open_].mean()))
        open_ &= ~passes
        size[open_] *= BACK_OFF
        true[open_] *= BACK_OFF**-STEEPNESS
    return float(size.mean()), passed[0]


def main() -> None:
    """Print a row for each share and each spread."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("share of the first look | standard error / tolerance | mean relative size | first look passes")
    for spread in (0.05, 0.1, 0.2, 0.3):
        for first in SHARES:
            size, passed = expected_size(first, spread)
            print(f"{first:23.2f} | {spread:26.2f} | {size:18.4f} | {100 * passed:.1f} %")


if __name__ == "__main__":
    main()
