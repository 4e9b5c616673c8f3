import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import BadInput
from noworse.tune.options import Options


@given(st.integers(0, 2**40), st.integers(1, 10**6), st.floats(1e-6, 1), st.booleans())
def test_round_trip(seed: int, iterations: int, rate: float, on_weights: bool) -> None:
    options = Options(seed=seed, iterations=iterations, lr_weights=rate, rate_on_weights=on_weights)
    assert Options.from_json(options.to_json()) == options


def test_lists_and_limits_round_trip() -> None:
    options = Options(features=("layer*", "fc"), layer_bits={"head.*": (2, 8)}, label_weight=0.5)
    assert Options.from_json(options.to_json()) == options
    assert options.layer_bits == {"head.*": (2.0, 8.0)}
    plain = {"features": ["layer*", "fc"], "layer_bits": {"head.*": [2.0, 8.0]}, "label_weight": 0.5}
    assert options.changed() == plain
    assert Options.from_json('{"features": "auto"}').features == ("auto",)


def test_changed_names_what_differs() -> None:
    assert Options().changed() == {}
    assert Options(seed=3, zone=0.7).changed() == {"seed": 3, "zone": 0.7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "JSON object, found list"),
        ("{", "not JSON"),
        ('{"sede": 1}', "unknown option 'sede'.*seed"),
        ('{"seed": "1"}', "seed must be of type int, found '1'"),
        ('{"rate_rounding": -1}', "rate_rounding must be a finite number >= 0, found -1"),
        ('{"iterations": -1}', "iterations must not be negative"),
        ('{"temperature": 0}', "temperature must be positive and finite, found 0"),
        ('{"damping": Infinity}', "damping must be positive and finite, found inf"),
        ('{"zone": 9}', r"zone must lie in \[0.4, 3.9\], found 9"),
        ('{"coder": "best"}', "coder must be one of auto, fast, max, found 'best'"),
        ('{"distill": "l1"}', "distill must be one of task, kl, mse, cosine, found 'l1'"),
        ('{"label_weight": -1}', "label_weight must be a finite number >= 0, found -1"),
        ('{"feature_weight": NaN}', "feature_weight must be a finite number"),
        ('{"distill_weight": 0}', "nothing to tune for"),
        ('{"distill_weight": 0, "features": ["a"], "feature_weight": 0}', "nothing to tune for"),
        ('{"features": [1]}', "features must hold names of modules"),
        ('{"features": 1}', "features must be of type tuple, found 1"),
        ('{"layer_bits": [1]}', "layer_bits must be of type dict"),
        ('{"layer_bits": {"a": 1}}', r"layer_bits\['a'\] is 1: expected two numbers"),
        ('{"layer_bits": {"a": [1, 2, 3]}}', "expected two numbers"),
        ('{"layer_bits": {"a": ["x", 2]}}', "expected two numbers"),
        ('{"layer_bits": {"a": [3, 2]}}', "0 <= least <= most"),
        ('{"layer_bits": {"a": [NaN, 2]}}', "0 <= least <= most"),
        ('{"layer_bits": {"a": [12, 13]}}', "least <= 11"),
        ('{"version": 99}', "version 99.*expected version"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Options.from_json(text)
