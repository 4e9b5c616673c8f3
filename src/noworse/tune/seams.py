"""Seams: parts of tuning that can be replaced by name, by us, by the papers or by anybody; nothing else changes.

| kind | what it decides | base class | names |
|---|---|---|---|
| transform | how weights become codes and back | Transform | deadzone, uniform, log, exp, multiscale |
| rate | what the gradient of the rate is taken of | Rate | soft, official |
| kernel | how the counter smooths its histogram | Kernel | cos, linear, triangle, range |
| tuner | where tuning starts, and what an iteration does | Tuner | joint, alternating |

The first name of each is the standard one. ``Options(plugins={"kernel": "linear"})`` chooses another; with settings
``{"kernel": {"name": "linear", "delta": 0.5}}``. A class of one's own that derives from the base class is named
``"package.module:object"``, or is given a short name by ``register``. It is imported when it is asked for, so options
are to be trusted like code; those in a compressed file are only shown. Settings are arguments of the class by name,
with defaults; a tuner gets them after its parts. What would be an ``if`` elsewhere belongs to the class.
"""

import inspect
import numbers
from collections.abc import Mapping
from typing import Any

from noworse.errors import BadInput
from noworse.run.named import named

L2, GRIDS, RATE = "noworse.papers.l2", "noworse.propose.grids.transform", "noworse.rate.soft"
TUNER = "noworse.tune.tuner:Tuner"
BASES = {"transform": f"{GRIDS}:Transform", "rate": f"{RATE}:Rate", "kernel": f"{RATE}:Kernel"}
BASES["tuner"] = TUNER
NAMES: dict[str, dict[str, str | type[Any]]] = {  # of classes, each as "module:object" until it is used
    "transform": {
        "deadzone": f"{GRIDS}:Deadzone",
        "uniform": f"{GRIDS}:Uniform",
        "log": f"{L2}.transforms:Log",
        "exp": f"{L2}.transforms:Exp",
        "multiscale": f"{L2}.transforms:Multiscale",
    },
    "rate": {"soft": f"{RATE}:SoftEntropy", "official": f"{L2}.rate:Official"},
    "kernel": {
        "cos": f"{RATE}:Cosine",
        "linear": f"{L2}.rate:Linear",
        "triangle": f"{L2}.rate:Triangle",
        "range": f"{L2}.rate:RangeKernel",
    },
    "tuner": {"joint": TUNER, "alternating": f"{L2}.alternate:AlternatingTuner"},
}


def register(kind: str, name: str, cls: type[Any]) -> None:
    """Let ``plugins`` of this kind name a class; BadInput for an unknown kind, or for what does not fit there."""
    names = _names(kind)
    names[name] = _fitting(kind, name, cls)


def normal(plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``plugins`` as options hold them, a name alone where there are no settings; BadInput where unusable."""
    found = {}
    for kind, given in plugins.items():
        name, cls, settings = _parsed(kind, given)
        settings = _checked(f"{kind} {name!r}", cls, settings, kind != "tuner")  # which is made of more than settings
        found[kind] = {"name": name, **settings} if settings else name
    return found


def find(kind: str, given: Any = None) -> type[Any]:
    """Return the class that a name, or a name with settings, stands for; by default the standard one; else BadInput."""
    return _parsed(kind, given)[1]


def made(kind: str, given: Any = None, *parts: Any) -> Any:
    """Return an object of the class that ``find`` tells, of ``parts`` and its settings."""
    _, cls, settings = _parsed(kind, given)
    return cls(*parts, **settings)


def typed(what: str, value: Any, default: Any) -> Any:
    """Return ``value`` as the type of ``default``: whole numbers may stand for real ones, one text for a tuple of it.

    BadInput, which names ``what`` it is, for any other type.
    """
    kind = type(default)
    number = {float: numbers.Real, int: numbers.Integral}.get(kind)
    if number and isinstance(value, number) and not isinstance(value, bool):
        return kind(value)
    if kind is tuple and isinstance(value, (str, list, tuple)):
        return (value,) if isinstance(value, str) else tuple(value)
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if type(value) is not kind:
        raise BadInput(f"{what} must be of type {kind.__name__}, found {value!r}")
    return value


def _names(kind: str) -> dict[str, str | type[Any]]:
    if kind not in NAMES:
        raise BadInput(f"unknown kind {kind!r} in option plugins: expected one of {', '.join(NAMES)}")
    return NAMES[kind]


def _parsed(kind: str, given: Any) -> tuple[str, type[Any], dict[str, Any]]:
    """Name, class and settings."""
    names = _names(kind)
    settings = dict(given) if isinstance(given, Mapping) else {"name": next(iter(names)) if given is None else given}
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise BadInput(f"option plugins[{kind!r}] is {given!r}: expected a name, or a name with settings")
    return name, _fitting(kind, name, named(kind, names, name)), settings


def _fitting(kind: str, name: str, cls: Any) -> type[Any]:
    if not (isinstance(cls, type) and issubclass(cls, named(kind, {}, BASES[kind]))):
        raise BadInput(f"{kind} {name!r} is {cls!r}: expected a class that derives from {BASES[kind]}")
    return cls


def _checked(what: str, cls: type[Any], settings: Mapping[str, Any], alone: bool) -> dict[str, Any]:
    """Settings of the types that the class has defaults of; BadInput where it cannot take them."""
    known = {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.default is not p.empty}
    for setting in settings:
        if setting not in known:
            raise BadInput(f"unknown setting {setting!r} of {what}: expected {', '.join(known) or 'none'}")
    found = {setting: typed(f"{setting} of {what}", value, known[setting]) for setting, value in settings.items()}
    try:
        if alone:
            cls(**found)  # the class may know more of what makes sense
    except TypeError as error:
        raise BadInput(f"{what} cannot be made of its settings ({error})") from error
    return found
