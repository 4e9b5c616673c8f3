import pytest

from noworse.errors import BadInput
from noworse.task.target import parse_target


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (20, 50_000),
        ("20", 50_000),
        ("20x", 50_000),
        (2.5, 400_000),
        ("400KB", 400_000),
        ("0.4 MB", 400_000),
        ("100KiB", 102_400),
        ("1.6 bits", 50_000),
        ("1.6bpw", 50_000),
        ("999 b", 999),
    ],
)
def test_forms(target: float | str, size: int) -> None:
    assert parse_target(target, 1_000_000, 250_000) == size


@pytest.mark.parametrize("target", ["", "small", "-3", 0, "20 parsecs", "1x", "2MB", "nan", "0.5"])
def test_refused(target: float | str) -> None:
    with pytest.raises(BadInput, match="target"):
        parse_target(target, 1_000_000, 250_000)
