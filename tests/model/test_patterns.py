import pytest

from noworse.errors import BadInput
from noworse.model.patterns import matching

NAMES = ["head.weight", "head.bias", "body.0.weight"]


def test_matches_come_in_the_order_of_the_names() -> None:
    assert matching(["body.*", "*.bias"], NAMES, "x") == ["head.bias", "body.0.weight"]
    assert matching([], NAMES, "x") == []


def test_a_pattern_without_a_match_names_what_is_close() -> None:
    with pytest.raises(BadInput, match=r"no tensor for keep matches 'haed.weight': expected a name such as head.wei"):
        matching(["head.*", "haed.weight"], NAMES, "no tensor for keep")
    with pytest.raises(BadInput, match=r"matches 'zzz': expected a name such as head.weight, head.bias"):
        matching(["zzz"], NAMES, "no tensor")
