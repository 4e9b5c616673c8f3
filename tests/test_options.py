import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import BadInput
from noworse.options import Options


@given(st.integers(0, 2**40), st.integers(1, 10**6), st.floats(1e-6, 1), st.booleans())
def test_round_trip(seed: int, iterations: int, rate: float, on_weights: bool) -> None:
    options = Options(seed=seed, iterations=iterations, lr_weights=rate, rate_on_weights=on_weights)
    assert Options.from_json(options.to_json()) == options


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
        ('{"iterations": -1}', "iterations must not be negative"),
        ('{"zone": 9}', r"zone must lie in \[0.4, 3.9\], found 9"),
        ('{"coder": "best"}', "coder must be one of auto, fast, max, found 'best'"),
        ('{"version": 99}', "version 99.*expected version"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Options.from_json(text)
