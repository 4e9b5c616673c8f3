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

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from noworse.errors import BadInput
from noworse.run.named import named
from noworse.tune.typed import typed

L2, GRIDS = "noworse.papers.l2", "noworse.propose.grids.transform"
BASES = {
    "transform": f"{GRIDS}:Transform",
    "rate": "noworse.rate.soft:Rate",
    "kernel": "noworse.rate.kernels:Kernel",
    "tuner": "noworse.tune.tuner:Tuner",
}
NAMES: dict[str, dict[str, str | type[Any]]] = {  # of classes, each as "module:object" until it is used
    "transform": {
        "deadzone": f"{GRIDS}:Deadzone",
        "uniform": f"{GRIDS}:Uniform",
        "log": f"{L2}.transforms:Log",
        "exp": f"{L2}.transforms:Exp",
        "multiscale": f"{L2}.transforms:Multiscale",
    },
    "rate": {"soft": "noworse.rate.soft:SoftEntropy", "official": f"{L2}.rate:Official"},
    "kernel": {
        "cos": "noworse.rate.kernels:Cosine",
        "linear": f"{L2}.kernels:Linear",
        "triangle": f"{L2}.kernels:Triangle",
        "range": f"{L2}.kernels:Range",
    },
    "tuner": {"joint": "noworse.tune.tuner:Tuner", "alternating": f"{L2}.alternate:AlternatingTuner"},
}


def register(kind: str, name: str, cls: type[Any]) -> None:
    """Let ``plugins`` of this kind name a class; BadInput for an unknown kind, or for what does not fit there."""
    names = _names(kind)
    names[name] = _fitting(kind, name, cls)


def normal(plugins: Mapping[str, Any]) -> dict[str, Any]:
    """``plugins`` as options hold them, a name alone where there are no settings; BadInput for what cannot be used."""
    found = {}
    for kind, given in plugins.items():
        cls, (name, settings) = find(kind, given), _split(kind, given)
        settings = _checked(kind, name, cls, settings)
        found[kind] = {"name": name, **settings} if settings else name
    return found


def find(kind: str, given: Any = None) -> type[Any]:
    """The class that a name, or a name with settings, stands for; the standard one if None. BadInput as above."""
    names, (name, _) = _names(kind), _split(kind, given)
    return _fitting(kind, name, named(kind, names, name))


def made(kind: str, given: Any = None, *parts: Any) -> Any:
    """An object of the class that ``find`` tells, of ``parts`` and its settings."""
    return find(kind, given)(*parts, **_split(kind, given)[1])


def _names(kind: str) -> dict[str, str | type[Any]]:
    if kind not in NAMES:
        raise BadInput(f"unknown kind {kind!r} in option plugins: expected one of {', '.join(NAMES)}")
    return NAMES[kind]


def _split(kind: str, given: Any) -> tuple[str, dict[str, Any]]:
    """Name and settings."""
    settings = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = next(iter(NAMES[kind])) if given is None else settings.pop("name", None)
    if not isinstance(name, str):
        raise BadInput(f"option plugins[{kind!r}] is {given!r}: expected a name, or a name with settings")
    return name, {} if given is None else settings


def _fitting(kind: str, name: str, cls: Any) -> type[Any]:
    if not (isinstance(cls, type) and issubclass(cls, named(kind, {}, BASES[kind]))):
        raise BadInput(f"{kind} {name!r} is {cls!r}: expected a class that derives from {BASES[kind]}")
    return cls


def _checked(kind: str, name: str, cls: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the types that the class has defaults of; BadInput where it cannot take them."""
    known = {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.default is not p.empty}
    for setting in settings:
        if setting not in known:
            raise BadInput(f"unknown setting {setting!r} of {kind} {name!r}: expected {', '.join(known) or 'none'}")
    found = {setting: typed(f"{setting} of {kind} {name!r}", settings[setting], known[setting]) for setting in settings}
    try:
        if kind != "tuner":  # which is made of more than settings
            cls(**found)  # the class may know more of what makes sense
    except TypeError as error:
        raise BadInput(f"{kind} {name!r} cannot be made of its settings ({error})") from error
    return found
