"""What ``compress``, ``quantize`` and ``decompose`` share: a task in, a judged file out, and their arguments."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noworse.errors import BadInput, TargetMissed
from noworse.format.source import destination

if TYPE_CHECKING:
    from noworse.tune.options import Options

ADDRESS = "path/file.py:object or package.module:object"
TOLERANCE = "most mean loss added: 0.01, or 1%% of the original's loss (the default)"


def add_arguments(parser: argparse.ArgumentParser, preset: str) -> None:
    """Declare what all three commands take beside their task; ``preset`` says which there are."""
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the .nwt file to write")
    parser.add_argument("--tolerance", type=number, help=TOLERANCE)
    parser.add_argument("--no-gate", action="store_true", help="write the file whatever the verdict on it")
    parser.add_argument("--preset", metavar="NAME", help=preset)
    parser.add_argument("--keep", action="append", default=[], metavar="PATTERN", help="leave tensors alone: 'head.*'")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same bytes")
    parser.add_argument("--options", metavar="FILE", help="advanced options as a JSON object")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help="one advanced option"
    )
    parser.add_argument("--work", metavar="FOLDER", help="keep checkpoints there; the same command goes on from them")
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare where models run."""
    parser.add_argument("--device", metavar="NAME", help="cuda, mps, cpu: where model and batches go (as the task is)")


def run(verb: Callable[..., Any], arguments: argparse.Namespace, options: Options, **asked: Any) -> int:
    """Call a verb on the task and print its report; TargetMissed where that is not good enough."""
    from noworse.jobs.progress import show_progress
    from noworse.run.processes import is_first
    from noworse.task.task import load_task

    if arguments.no_gate and arguments.tolerance is not None:
        raise BadInput("--no-gate was given with --tolerance: expected one of them")
    asked["tolerance"] = None if arguments.no_gate else "1%" if arguments.tolerance is None else arguments.tolerance
    destination(arguments.out, arguments.task.rpartition(":")[0], *filter(None, [arguments.options]))
    task = load_task(arguments.task)
    task = replace(task, keep=[*task.keep, *arguments.keep])
    asked |= {"device": arguments.device, "progress": None if arguments.quiet else show_progress}
    try:
        report = verb(task, arguments.out, options=options, work=arguments.work, **asked)
    except TargetMissed as missed:
        if arguments.json and is_first():
            print(missed.report.to_json())
        raise
    if is_first():
        print(report.to_json() if arguments.json else report)
    return 0


def read_options(arguments: argparse.Namespace, preset: str | None = None) -> Options:
    """Return the options of ``preset`` or ``--options``, then ``--set``, then ``--seed`` and so on; else BadInput."""
    from noworse.tune.options import Options, choose

    given = None
    if arguments.options is not None:
        text = Path(arguments.options).read_bytes().decode(errors="replace")  # what is no UTF-8 is no JSON either
        given = Options.from_json(text)
    values = json.loads(choose(given, preset or "default").to_json())
    for setting in arguments.settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise BadInput(f"--set {setting}: expected NAME=VALUE")
        values[name.strip()] = value(text)
    for name in ("seed", "iterations", "coder"):
        if getattr(arguments, name, None) is not None:
            values[name] = getattr(arguments, name)
    return Options.from_json(json.dumps(values))


def value(text: str) -> Any:
    """Return what a text means in JSON, or the text itself where it means nothing there."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def number(text: str) -> float | str:
    """Return a text as a number where it is one."""
    try:
        return float(text)
    except ValueError:
        return text
