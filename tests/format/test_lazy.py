"""Values are made when asked for, and not kept."""

from __future__ import annotations

from noworse.format.lazy import Lazy


def test_values_are_made_when_asked_for() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return 2 * name

    lazy = Lazy({name: lambda name=name: make(name) for name in "ba"})
    assert list(lazy) == ["b", "a"]
    assert len(lazy) == 2
    assert "a" in lazy
    made.clear()
    assert lazy["a"] == "aa"
    assert made == ["a"]
    assert dict(lazy.items()) == {"b": "bb", "a": "aa"}
    assert made == ["a", "b", "a"]
