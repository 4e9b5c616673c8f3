"""Objects by name: tables of what we, the papers or anybody plug in, each imported when it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from noworse.errors import BadInput

DEFAULT = "default"  # the preset where none is asked for


def named(what: str, table: Mapping[str, Any], name: str, kind: type[Any] = object) -> Any:
    """Return the ``kind`` of object that ``table`` has under ``name``, itself or as "package.module:object".

    A ``name`` of that form stands for itself. BadInput, which says ``what`` it should be, for one that is not there,
    cannot be imported, or is of another kind.
    """
    found = table.get(name, name)
    if isinstance(found, str):
        module, colon, attribute = found.partition(":")
        if not colon:
            raise BadInput(f"unknown {what} {name!r}: expected one of {', '.join(table)}, or 'package.module:object'")
        try:
            found = getattr(import_module(module), attribute)
        except Exception as error:  # the module may be the caller's, and do anything
            raise BadInput(f"{what} {name!r} cannot be imported ({type(error).__name__}: {error})") from error
    if not isinstance(found, kind):
        raise BadInput(f"{what} {name!r} is {found!r}: expected an object of {kind.__module__}:{kind.__qualname__}")
    return found
