"""The two JSON objects of an index, settings and verdict: plain data of limited size and depth, or CorruptFile."""

import json
import math
from typing import Any

from noworse.errors import BadInput, CorruptFile
from noworse.format import limits


def dump(what: str, value: dict[str, Any] | None) -> bytes:
    """Return the UTF-8 text of an object, empty for None; BadInput for what JSON, or a reader, does not accept."""
    if value is None:
        return b""
    try:
        data = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        load(what, data)
    except (TypeError, ValueError, RecursionError, CorruptFile) as error:
        raise BadInput(f"the {what} cannot be written as JSON: {error}") from error
    return data


def load(what: str, data: bytes) -> dict[str, Any] | None:
    """Return the object that a text stands for, None for no text; CorruptFile for anything else."""
    if not data:
        return None
    if len(data) > limits.JSON_BYTES:
        raise CorruptFile(f"the {what} take {len(data)} bytes, expected at most {limits.JSON_BYTES}")
    try:
        value = json.loads(data.decode(), parse_int=_integer, parse_float=_number, parse_constant=_number)
        json.dumps(value, ensure_ascii=False).encode()  # halves of surrogate pairs cannot be printed
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"the {what} are no JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorruptFile(f"the {what} are a JSON {type(value).__name__}, expected an object")
    if _deeper(value, limits.JSON_DEPTH):
        raise CorruptFile(f"the {what} are nested deeper than {limits.JSON_DEPTH} levels")
    return value


def _integer(text: str) -> int:
    if len(text) > limits.JSON_DIGITS:
        raise ValueError(f"an integer of {len(text)} characters, expected at most {limits.JSON_DIGITS}")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is not finite")
    return value


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more than so many levels."""
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner)
