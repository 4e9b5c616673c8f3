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
are to be trusted like code; those in a compressed file are only shown. Settings are arguments of the class by name
(of a tuner: those by keyword alone), and what the standard one would leave to an ``if`` belongs to the class.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noworse.errors import BadInput
from noworse.tune.typed import typed


@dataclass(frozen=True)
class Seam:
    """One kind: its base class, and classes by short names, the standard one first; "module:object" until used.

    ``alone``: whether settings are all that an object is made of.
    """

    base: str
    names: dict[str, str | type[Any]]
    alone: bool = True


GRIDS, RATE, L2 = "noworse.propose.grids.transform", "noworse.rate", "noworse.papers.l2"
SEAMS = {
    "transform": Seam(
        f"{GRIDS}:Transform",
        {
            "deadzone": f"{GRIDS}:Deadzone",
            "uniform": f"{GRIDS}:Uniform",
            "log": f"{L2}.transforms:Log",
            "exp": f"{L2}.transforms:Exp",
            "multiscale": f"{L2}.transforms:Multiscale",
        },
    ),
    "rate": Seam(f"{RATE}.soft:Rate", {"soft": f"{RATE}.soft:SoftEntropy", "official": f"{L2}.rate:Official"}),
    "kernel": Seam(
        f"{RATE}.kernels:Kernel",
        {
            "cos": f"{RATE}.kernels:Cosine",
            "linear": f"{L2}.kernels:Linear",
            "triangle": f"{L2}.kernels:Triangle",
            "range": f"{L2}.kernels:Range",
        },
    ),
    "tuner": Seam(
        "noworse.tune.tuner:Tuner",
        {"joint": "noworse.tune.tuner:Tuner", "alternating": f"{L2}.alternate:AlternatingTuner"},
        alone=False,
    ),
}


def register(kind: str, name: str, cls: type[Any]) -> None:
    """Let ``plugins`` of this kind name a class; BadInput for an unknown kind, or for what does not fit there."""
    seam = _seam(kind)
    _fitting(kind, seam, name, cls)
    seam.names[name] = cls


def normal(plugins: Mapping[str, Any]) -> dict[str, Any]:
    """``plugins`` as options hold them, a name alone where there are no settings; BadInput for what cannot be used."""
    found = {}
    for kind in plugins:
        name, settings = _split(kind, plugins[kind])
        settings = _checked(kind, name, find(kind, name), settings)
        found[kind] = {"name": name, **settings} if settings else name
    return found


def find(kind: str, given: Any = None) -> type[Any]:
    """The class that a name, or a name with settings, stands for; the standard one if None. BadInput as above."""
    seam = _seam(kind)
    name = _split(kind, given)[0] if given is not None else next(iter(seam.names))
    known = seam.names.get(name, name)
    if isinstance(known, str) and ":" not in known:
        expected = f"one of {', '.join(seam.names)}, or 'package.module:object'"
        raise BadInput(f"unknown {kind} {name!r}: expected {expected}")
    cls = _imported(kind, known) if isinstance(known, str) else known
    return _fitting(kind, seam, name, cls)


def settings_of(kind: str, given: Any) -> dict[str, Any]:
    """The settings that come with a name."""
    return {} if given is None else _split(kind, given)[1]


def made(kind: str, given: Any = None) -> Any:
    """An object of the class that a name, or a name with settings, stands for; of the standard one if None."""
    return find(kind, given)(**settings_of(kind, given))


def _seam(kind: str) -> Seam:
    if kind not in SEAMS:
        raise BadInput(f"unknown kind {kind!r} in option plugins: expected one of {', '.join(SEAMS)}")
    return SEAMS[kind]


def _split(kind: str, given: Any) -> tuple[str, dict[str, Any]]:
    """Name and settings."""
    settings = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise BadInput(f"option plugins[{kind!r}] is {given!r}: expected a name, or a name with settings")
    return name, settings


def _imported(kind: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module may be the caller's, and do anything
        raise BadInput(f"{kind} {place!r} cannot be imported ({type(error).__name__}: {error})") from error


def _fitting(kind: str, seam: Seam, name: str, cls: Any) -> type[Any]:
    base: type[Any] = _imported(kind, seam.base)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise BadInput(f"{kind} {name!r} is {cls!r}: expected a class that derives from {seam.base}")
    return cls


def _checked(kind: str, name: str, cls: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the types that the class has defaults of; BadInput where it cannot take them."""
    known = {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.default is not p.empty}
    for setting in settings:
        if setting not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise BadInput(f"unknown setting {setting!r} of {kind} {name!r}: expected {expected}")
    found = {setting: typed(f"{setting} of {kind} {name!r}", settings[setting], known[setting]) for setting in settings}
    try:
        if SEAMS[kind].alone:
            cls(**found)  # which may know more of what makes sense
    except TypeError as error:
        raise BadInput(f"{kind} {name!r} cannot be made of its settings ({error})") from error
    return found
