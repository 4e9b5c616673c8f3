"""Values of the type of a default: the one rule by which options and settings are accepted."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from noworse.errors import BadInput


def typed(what: str, value: Any, default: Any) -> Any:
    """``value`` as the type of ``default``: whole numbers may stand for real ones, one text for a tuple of it.

    BadInput, which names ``what`` it is, for any other type.
    """
    kind = type(default)
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if kind is tuple and isinstance(value, (str, list, tuple)):
        return (value,) if isinstance(value, str) else tuple(value)
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if type(value) is not kind:
        raise BadInput(f"{what} must be of type {kind.__name__}, found {value!r}")
    return value
