from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from noworse.errors import BadInput
from noworse.judge.verdict import (
    MINIMUM_SAMPLES,
    VERDICTS,
    Verdict,
    chance_of_error,
    judge,
    parse_tolerance,
    upper_bound,
)

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]

ALPHA = 0.05
TRIALS = 1000
MARGIN = 3 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)  # of the Monte-Carlo estimate


def rare_losses(share: float) -> Draw:
    """Small noise, and large losses of mean 3 on a share of the samples."""

    def draw(rng: np.random.Generator, count: int) -> Array:
        return rng.normal(0, 0.1, count) + (rng.random(count) < share) * rng.exponential(3, count)

    return draw


DIFFERENCES: dict[str, tuple[Draw, float]] = {  # how to draw, true mean
    "normal": (lambda rng, n: rng.normal(0, 1, n), 0.0),
    "heavy tails": (lambda rng, n: rng.standard_t(3, n), 0.0),
    "lognormal": (lambda rng, n: rng.lognormal(0, 1, n), math.exp(0.5)),
    "left-skewed": (lambda rng, n: -rng.lognormal(0, 1, n), -math.exp(0.5)),
    "large losses on 5 %": (rare_losses(0.05), 0.15),
    "coin flips": (lambda rng, n: rng.choice([-0.5, 0.7], n), 0.1),
}


@pytest.mark.parametrize("count", [200, 1000, 10000])
@pytest.mark.parametrize("name", DIFFERENCES)
def test_false_pass_rate_at_a_true_difference_of_exactly_the_tolerance(name: str, count: int) -> None:
    draw, mean = DIFFERENCES[name]
    rng = np.random.default_rng(2024)
    zeros, passes, false_alarms = np.zeros(count), 0, 0
    for _ in range(TRIALS):
        found = judge(zeros, draw(rng, count) - mean + 0.25, 0.25)
        passes += found.passed
        false_alarms += found.verdict == "worse"
    assert passes / TRIALS <= ALPHA + MARGIN
    assert false_alarms / TRIALS <= ALPHA + MARGIN


def test_rare_large_losses_pass_too_often_only_where_the_sample_holds_a_handful() -> None:
    """What the module's text says of the limits: a dozen bad samples are enough, two are not."""
    rng = np.random.default_rng(7)
    rates = {}
    for expected in (2, 12):
        draw, zeros = rare_losses(expected / 200), np.zeros(200)
        verdicts = [judge(zeros, draw(rng, 200), 3 * expected / 200) for _ in range(TRIALS)]
        rates[expected] = sum(verdict.passed for verdict in verdicts) / TRIALS
    assert rates[12] <= ALPHA + MARGIN
    assert rates[2] > 2 * ALPHA


def test_student_alone_would_pass_skewed_damage_too_often() -> None:
    """The reason for the corrections, checked with SciPy's own interval on the same draws."""
    rng = np.random.default_rng(3)
    samples = rng.lognormal(0, 1, (TRIALS, 200))
    quantile = stats.t.ppf(1 - ALPHA, 199)
    student = samples.mean(1) + quantile * stats.sem(samples, axis=1)
    assert (student < math.exp(0.5)).mean() > ALPHA + MARGIN


def test_power_and_price_on_normal_differences() -> None:
    rng = np.random.default_rng(5)
    for count, price in ((200, 1.20), (1000, 1.10), (10000, 1.04)):
        widths, passes = [], 0
        for _ in range(200):
            sample = rng.normal(0, 1, count)
            student = stats.t.ppf(1 - ALPHA, count - 1) * stats.sem(sample)
            widths.append((upper_bound(sample, ALPHA) - sample.mean()) / student)
            passes += judge(np.zeros(count), sample, 4 / math.sqrt(count)).passed
        assert 1 <= np.median(widths) <= price
        assert passes / 200 > 0.9


finite = st.floats(-100, 100).map(lambda x: round(x, 3))
samples_of = st.lists(finite, min_size=MINIMUM_SAMPLES, max_size=80).map(np.array)


@given(samples_of, st.floats(0.01, 100), finite)
def test_bounds_move_and_scale_with_the_data(sample: Array, scale: float, shift: float) -> None:
    expected = scale * upper_bound(sample, ALPHA) + shift
    assert upper_bound(scale * sample + shift, ALPHA) == pytest.approx(expected, rel=1e-6, abs=1e-6 * (1 + scale))


@given(samples_of, st.floats(0.001, 0.2))
def test_bound_is_never_below_student(sample: Array, alpha: float) -> None:
    student = sample.mean() + stats.t.ppf(1 - alpha, len(sample) - 1) * stats.sem(sample)
    assert upper_bound(sample, alpha) >= student - 1e-9


@given(samples_of, st.floats(0, 50), st.integers(1, 20), st.data())
def test_looks_split_the_chance_of_error(sample: Array, tolerance: float, looks: int, data: st.DataObject) -> None:
    zeros, look = np.zeros(len(sample)), data.draw(st.integers(1, looks))
    several = judge(zeros, sample, tolerance, 0.9, look, looks)
    share = 1.0 if looks == 1 else 0.8 if look == 1 else 0.2 / (looks - 1)
    single = judge(zeros, sample, tolerance, confidence=1 - 0.1 * share)
    assert several.upper_bound == pytest.approx(single.upper_bound)
    assert several.lower_bound == pytest.approx(single.lower_bound)
    assert (several.look, several.looks) == (look, looks)
    assert several.confidence == 0.9
    assert sum(chance_of_error(0.9, k, looks) for k in range(1, looks + 1)) == pytest.approx(0.1)


@pytest.mark.parametrize("correlation", [0.0, 0.8, 0.95])
def test_three_looks_err_together_in_no_more_than_one(correlation: float) -> None:
    """A loss difference that is exactly the tolerance should pass at any of three looks in at most 5 % of trials."""
    draws, trials, samples = np.random.default_rng(7), 2000, 60
    passed = 0
    for _ in range(trials):
        shared = draws.standard_normal(samples)
        for look in (1, 2, 3):
            own = draws.standard_normal(samples)
            differences = 1 + math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
            if judge(np.zeros(samples), differences, 1.0, look=look, looks=3).passed:
                passed += 1
                break
    assert passed / trials <= 0.055


@given(samples_of, st.floats(0, 50))
def test_verdict_follows_from_the_bounds(sample: Array, tolerance: float) -> None:
    found = judge(np.zeros(len(sample)), sample, tolerance)
    upper, lower = found.upper_bound, found.lower_bound
    assert lower <= found.mean_difference + 1e-9
    assert upper >= found.mean_difference - 1e-9
    assert (found.verdict == "improved") == (upper < 0)
    assert (found.verdict == "no worse") == (0 <= upper <= tolerance)
    assert (found.verdict == "worse") == (lower > tolerance)
    assert found.verdict in VERDICTS
    assert found.passed == (upper <= tolerance)


@pytest.mark.parametrize(
    ("shift", "tolerance", "verdict"),
    [(-1.0, 0.1, "improved"), (0.0, 0.5, "no worse"), (0.0, 0.0, "inconclusive"), (1.0, 0.1, "worse")],
)
def test_categories(shift: float, tolerance: float, verdict: str) -> None:
    rng = np.random.default_rng(0)
    original = rng.exponential(1, 1000)
    noise = rng.normal(0, 1, 1000)
    found = judge(original, original + noise - noise.mean() + shift, tolerance)
    assert found.verdict == verdict
    assert found.mean_difference == pytest.approx(shift, abs=1e-9)
    assert found.compressed_loss - found.original_loss == pytest.approx(shift, abs=1e-9)


def test_identical_losses_are_no_worse_even_without_tolerance() -> None:
    losses = np.random.default_rng(0).exponential(1, 50)
    found = judge(losses, losses, 0.0)
    assert (found.verdict, found.upper_bound, found.lower_bound) == ("no worse", 0.0, 0.0)


@pytest.mark.parametrize(
    ("original", "compressed", "options", "message"),
    [
        (np.zeros(40), np.zeros(41), {}, "41 compressed losses cannot be paired with 40"),
        (np.zeros(29), np.zeros(29), {}, "29 samples .* at least 30"),
        (np.zeros(0), np.zeros(0), {}, "0 samples"),
        (0.5, 0.5, {}, r"shape \(\): expected one loss per sample"),
        (np.zeros((40, 1)), np.zeros((40, 1)), {}, r"shape \(40, 1\)"),
        (np.zeros(40), np.r_[np.nan, np.inf, np.zeros(38)], {}, "2 of 40 compressed losses are NaN or infinite"),
        (np.zeros(40), np.zeros(40), {"tolerance": -0.1}, "tolerance -0.1"),
        (np.zeros(40), np.zeros(40), {"tolerance": math.nan}, "tolerance nan"),
        (np.zeros(40), np.zeros(40), {"confidence": 1.0}, "confidence 1.0"),
        (np.zeros(40), np.zeros(40), {"looks": 0}, "look 1 of 0"),
        (np.zeros(40), np.zeros(40), {"look": 3, "looks": 2}, "look 3 of 2"),
        (np.zeros(40), np.r_[1e300, -1e300, np.zeros(38)], {}, "overflow"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_losses_that_cannot_be_judged(original: object, compressed: object, options: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        judge(original, compressed, **{"tolerance": 0.1, **options})  # type: ignore[arg-type]


numbers = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | numbers
verdicts = st.builds(
    Verdict,
    st.sampled_from(VERDICTS),
    st.integers(30, 10**9),
    *[numbers] * 7,
    st.integers(1, 9),
    st.integers(9, 99),
    *[maybe] * 6,
)


@given(verdicts)
def test_json_round_trip_is_exact(verdict: Verdict) -> None:
    assert Verdict(**json.loads(verdict.to_json())) == verdict


@settings(max_examples=50)
@given(verdicts)
def test_record_is_small_json_close_to_the_verdict(verdict: Verdict) -> None:
    record = json.loads(json.dumps(verdict.record()))
    again = Verdict.from_record(record)
    for name, value in vars(verdict).items():
        assert getattr(again, name) == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)
    assert len(json.dumps(record, separators=(",", ":"))) < 500


def test_verdict_fields_are_checked() -> None:
    good = judge(np.zeros(40), np.zeros(40), 0.1).record()
    with pytest.raises(BadInput, match="samples of a verdict is 'many'"):
        Verdict.from_record({**good, "samples": "many"})
    with pytest.raises(BadInput, match="'fine' is no verdict"):
        Verdict.from_record({**good, "verdict": "fine"})
    with pytest.raises(BadInput, match="mystery"):
        Verdict.from_record({**good, "mystery": 1})


def test_text_holds_what_a_reader_needs() -> None:
    losses = 0.25, 0.2525, 0.0025, 0.004, 0.001, 0.01
    verdict = Verdict("no worse", 9999, *losses, 0.95, 2, 3, 91.5, 91.25, 0.0125, 0.003, 0.9876, 0.9765)
    text = str(verdict)
    for part in ("no worse", "9,999", "0.2525", "0.25 ", "+0.0025", "+0.004", "+0.001", "0.01", "95 %", "look 2 of 3"):
        assert part in text
    for part in ("91.5", "91.25", "1.25 %", "0.003 nats", "98.76 %, above 97.65 %", "1 in 3,333"):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("tolerance", "mean", "expected"),
    [(0.01, 5.0, 0.01), ("0.01", 5.0, 0.01), ("1%", 5.0, 0.05), (" 0.5 % ", -2.0, 0.01), (0, 5.0, 0.0)],
)
def test_tolerances(tolerance: float | str, mean: float, expected: float) -> None:
    assert parse_tolerance(tolerance, mean) == pytest.approx(expected)


@pytest.mark.parametrize("tolerance", ["", "%", "one", "-1%", -0.1, math.nan, "inf", "1%%", None])
def test_tolerances_that_cannot_be_used(tolerance: object) -> None:
    with pytest.raises(BadInput, match="tolerance"):
        parse_tolerance(tolerance, 1.0)  # type: ignore[arg-type]


def test_an_open_verdict_says_how_many_samples_would_do() -> None:
    """Of normal differences: the bound is about mean + 1.645 σ/√n."""
    rng = np.random.default_rng(0)
    original, noise = np.zeros(400), rng.normal(size=400)
    differences = 0.02 * (noise - noise.mean()) / noise.std()  # mean 0, deviation 0.02
    found = judge(original, differences, 0.001)
    assert found.verdict == "inconclusive"
    needed = found.samples_needed
    assert needed == pytest.approx((1.645 * 0.02 / 0.001) ** 2, rel=0.3)  # skewness, and the worst, widen it
    assert f"About {needed:,} samples would show" in str(found)
    found = judge(original, differences + 0.0011, 0.001)
    assert found.samples_needed is None
    assert "No number of samples would show" in str(found)
