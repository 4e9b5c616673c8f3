"""Landing, against a made-up measure of the file."""

from __future__ import annotations

import numpy as np
import pytest

from noworse.checkpoint import Header
from noworse.datafree.land import land
from noworse.datafree.slope import Curve
from noworse.datafree.survey import profile
from noworse.errors import TargetMissed
from noworse.representation import unpack_step


def curves():
    rng = np.random.default_rng(0)
    found = {}
    for number, shape in enumerate([(100, 100), (30, 300), (64,)]):
        found[str(number)] = Curve(profile(Header("float32", shape), rng.normal(size=shape).astype(np.float32)))
    return found


@pytest.mark.parametrize("target", [3000, 5000, 9000, 20000])
@pytest.mark.parametrize(("overhead", "factor"), [(0, 1.0), (600, 1.1), (100, 0.8)])
def test_lands_within_one_per_cent_whatever_estimates_are_off_by(target, overhead, factor):
    known = curves()
    passes = []

    def measure(grids):
        bits = sum(known[n].cost(unpack_step(s), e)[0] * known[n].profile.size for n, (s, e) in grids.items())
        bits += sum(c.profile.lossless_bits * c.profile.size for n, c in known.items() if n not in grids)
        passes.append(int(factor * bits / 8) + overhead)
        return passes[-1]

    grids = land(known, target, 0, measure)
    assert 0.99 * target <= measure(grids) <= target
    assert len(passes) <= 9


def test_a_target_out_of_reach_names_the_nearest():
    with pytest.raises(TargetMissed, match="99 to 100 % of 900 bytes; the nearest file has 5,000"):
        land(curves(), 900, 0, lambda grids: 5000)
