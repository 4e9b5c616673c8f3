"""The statistics of "no worse": one-sided bounds on the mean of paired loss differences, and what they allow to say.

"Not significantly worse" is not "no worse": a small sample would always pass. So a model passes only where the *upper*
confidence bound of its mean loss difference lies at or below the tolerance.

The bound. A compressed model fails on few samples by much, so differences are skewed to the right and Student's t
promises too much: the tail is underrepresented in most samples. Two corrections make it hold. Johnson's (1978) adds
the first-order effect of skewness, used only where it widens the bound. The worst difference seen is counted once
more, because the next sample may be as bad; that adds what the empirical skewness, biased towards zero, leaves out.

What no bound can do: damage on a share p of samples is absent from n samples with probability (1 − p)ⁿ, which exceeds
5 % where p < 3/n. Of rarer catastrophes a test on n samples knows nothing; and where means hang on a handful of
samples (lognormal losses of log-deviation 2, or five bad samples in all), the false-pass rate rises to 5-12 %.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noworse.errors import BadInput

MINIMUM_SAMPLES = 30  # fewer say nothing about a tail
FIRST_LOOK = 0.8  # of the chance of error that several looks share
IMPROVED, NO_WORSE, INCONCLUSIVE, WORSE = "improved", "no worse", "inconclusive", "worse"
FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
}
VERDICTS = (IMPROVED, NO_WORSE, INCONCLUSIVE, WORSE)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a paired test; losses, bounds and tolerance in the loss's unit, bounds one-sided."""

    verdict: str  # "improved", "no worse", "inconclusive" or "worse"
    samples: int
    original_loss: float
    compressed_loss: float
    mean_difference: float  # compressed - original
    upper_bound: float
    lower_bound: float
    tolerance: float
    confidence: float = 0.95  # of each bound, over all looks together
    look: int = 1  # which of the declared looks at these samples this is
    looks: int = 1  # that were declared before the first
    metric_original: float | None = None
    metric_compressed: float | None = None
    changed: float | None = None  # share of predictions whose argmax changed
    mean_kl: float | None = None  # KL(original || compressed) in nats
    ear: float | None = None  # expected acceptance rate: Σ min(p, q) of both models' probabilities
    ear_bound: float | None = None  # which it is above, with the same confidence as the other bounds

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, FIELD_TYPES[str(field.type)]) or isinstance(value, bool):
                raise BadInput(f"{field.name} of a verdict is {value!r}: expected {field.type}")
        if not 1 <= self.look <= self.looks:
            raise BadInput(f"look {self.look} of {self.looks} in a verdict: expected 1 <= look <= looks")
        if self.verdict not in VERDICTS:
            raise BadInput(f"{self.verdict!r} is no verdict: expected one of {', '.join(VERDICTS)}")

    @property
    def passed(self) -> bool:
        """Whether the compressed model is no worse within the tolerance, or improved."""
        return self.verdict in (IMPROVED, NO_WORSE)

    @property
    def samples_needed(self) -> int | None:
        """About how many samples would show that a mean difference as it is now is within the tolerance, None if none.

        A bound comes nearer to the mean with one over the root of their number.
        """
        room = self.tolerance - self.mean_difference
        return math.ceil(self.samples * ((self.upper_bound - self.mean_difference) / room) ** 2) if room > 0 else None

    def __bool__(self) -> bool:
        return self.passed

    def record(self) -> dict[str, Any]:
        """Return what a file stores: the fields that are set (a single look is not), floats to six digits."""
        return {
            name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if value is not None and not (name in ("look", "looks") and self.looks == 1)
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Verdict:
        """Return the verdict that a file stores; BadInput for a missing or unknown field or one of the wrong type."""
        try:
            return cls(**record)
        except TypeError as error:
            raise BadInput(f"not a verdict: {error}") from error

    def to_json(self) -> str:
        """Return all fields as one JSON object, exactly."""
        return json.dumps(asdict(self), allow_nan=False)

    def __str__(self) -> str:
        text = (
            f"{self.verdict}: mean loss {self.compressed_loss:.5g} against {self.original_loss:.5g} of the original on "
            f"{self.samples:,} samples, difference {self.mean_difference:+.3g} (at {100 * self.confidence:g} % "
            f"confidence above {self.lower_bound:+.3g} and below {self.upper_bound:+.3g}, "
            f"tolerance {self.tolerance:.3g}"
        )
        text += f", look {self.look} of {self.looks} at these samples)." if self.looks > 1 else ")."
        if self.metric_original is not None and self.metric_compressed is not None:
            text += f" Metric {self.metric_compressed:.5g} against {self.metric_original:.5g}."
        if self.changed is not None:
            text += f" {100 * self.changed:.2f} % of the predictions changed"
            text += "." if self.mean_kl is None else f", mean KL to the original {self.mean_kl:.3g} nats."
        if self.ear is not None and self.ear_bound is not None:
            text += f" Expected acceptance rate {100 * self.ear:.2f} %, above {100 * self.ear_bound:.2f} %."
        if self.verdict == INCONCLUSIVE:
            needed = self.samples_needed
            would = "No number of samples" if needed is None else f"About {needed:,} samples"
            text += f" {would} would show that such a difference is within the tolerance."
        return text + f" Damage to fewer than 1 in {self.samples // 3:,} samples can go unseen."


def upper_bound(differences: NDArray[np.float64], alpha: float) -> float:
    """Return an upper bound of the mean of (N,) differences that fails with probability about ``alpha``.

    Source: Johnson, Modified t tests and confidence intervals for asymmetrical populations, JASA 73 (1978), with the
    largest difference counted twice; see the module's text.
    """
    from scipy.special import stdtrit  # here: reading a stored verdict needs numpy alone

    quantile = float(stdtrit(len(differences) - 1, 1 - alpha))
    student = float(differences.mean() + quantile * differences.std(ddof=1) / math.sqrt(len(differences)))
    values = np.append(differences, differences.max())
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    if deviation == 0:
        return student
    scaled = (values - mean) / deviation
    skewness = float((scaled * scaled * scaled).mean())
    correction = max(skewness, 0.0) * (1 + 2 * quantile**2) / (6 * math.sqrt(len(values)))
    return max(student, mean + (quantile + correction) * deviation / math.sqrt(len(values)))


def lower_bound(values: NDArray[np.float64], confidence: float = 0.95, look: int = 1, looks: int = 1) -> float:
    """Return a lower bound of the mean of (N,) values, N >= 30, that holds as the bounds of ``judge`` do."""
    return -upper_bound(-values, chance_of_error(confidence, look, looks))


def judge(
    original_losses: ArrayLike,
    compressed_losses: ArrayLike,
    tolerance: float,
    confidence: float = 0.95,
    look: int = 1,
    looks: int = 1,
) -> Verdict:
    """Judge per-sample losses (N,), N >= 30, of two models in pairs, against a tolerance in the loss's unit.

    Bounds hold with ``confidence`` over all ``looks`` at the same samples together, of which this is number ``look``
    (see ``chance_of_error``). Improved: upper bound < 0; no worse: upper bound <= tolerance; worse: lower bound >
    tolerance; inconclusive otherwise. Raises BadInput for losses that cannot be paired or are not finite.
    """
    original, compressed = _losses(original_losses, "original"), _losses(compressed_losses, "compressed")
    if original.shape != compressed.shape:
        raise BadInput(f"{len(compressed)} compressed losses cannot be paired with {len(original)} original ones")
    if len(original) < MINIMUM_SAMPLES:
        raise BadInput(f"{len(original)} samples cannot be judged: expected at least {MINIMUM_SAMPLES}")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise BadInput(f"tolerance {tolerance!r} cannot be used: expected a finite number >= 0")
    if not 0.5 < confidence < 1:
        raise BadInput(f"confidence {confidence!r} cannot be used: expected a number between 0.5 and 1")
    differences = compressed - original
    alpha = chance_of_error(confidence, look, looks)
    upper, lower = upper_bound(differences, alpha), lower_bound(differences, confidence, look, looks)
    if not (math.isfinite(upper) and math.isfinite(lower)):
        raise BadInput(f"losses up to {np.abs(differences).max():.3g} overflow: expected losses of ordinary size")
    return Verdict(
        _category(upper, lower, tolerance), len(original), float(original.mean()), float(compressed.mean()),
        float(differences.mean()), upper, lower, float(tolerance), confidence, look, looks,
    )  # fmt: skip


def chance_of_error(confidence: float, look: int = 1, looks: int = 1) -> float:
    """Return the chance of a false pass that one of several declared looks at the same samples may take.

    A single look takes all of 1 - ``confidence``. Of several the first takes four fifths, since it is nearly always the
    last (`python -m benchmarks.looks` simulates what other shares cost), and the others divide the rest: together they
    err in at most 1 - ``confidence``, however their outcomes are correlated (union bound).
    """
    if not 1 <= look <= looks:
        raise BadInput(f"look {look!r} of {looks!r} cannot be judged: expected the number of a look and their count")
    shares = [1.0] if looks == 1 else [FIRST_LOOK, *[(1 - FIRST_LOOK) / (looks - 1)] * (looks - 1)]
    return (1 - confidence) * shares[look - 1]


def _category(upper: float, lower: float, tolerance: float) -> str:
    if upper < 0:
        return IMPROVED
    if upper <= tolerance:
        return NO_WORSE
    return WORSE if lower > tolerance else INCONCLUSIVE


def _losses(losses: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(losses, dtype=np.float64)
    if array.ndim != 1:
        raise BadInput(f"{what} losses have shape {array.shape}: expected one loss per sample, shape (N,)")
    bad = len(array) - int(np.isfinite(array).sum())
    if bad:
        raise BadInput(f"{bad} of {len(array)} {what} losses are NaN or infinite: expected finite losses")
    return array


def parse_tolerance(tolerance: float | str, original_mean_loss: float) -> float:
    """Return a tolerance in the loss's unit: a number as it is, "1%" as a share of the original's mean loss."""
    text = str(tolerance).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError as error:
        raise BadInput(f"tolerance {tolerance!r} is not understood: expected a number such as 0.01, or '1%'") from error
    if not (math.isfinite(value) and value >= 0):
        raise BadInput(f"tolerance {tolerance!r} cannot be used: expected a finite number >= 0")
    return value / 100 * abs(original_mean_loss) if text.endswith("%") else value
