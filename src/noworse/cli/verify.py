"""``noworse verify``: the paired test again, on the held-out data of a task."""

from __future__ import annotations

import argparse

from noworse.errors import BadInput, CorruptFile
from noworse.format import File, restamp
from noworse.verdict import Verdict

HELP = "judge a .nwt file against the original model on the held-out data of a task"
MISSED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("task", metavar="TASK", help="path/file.py:object or package.module:object")
    parser.add_argument("file", metavar="FILE", help="the .nwt file")
    parser.add_argument(
        "--tolerance", help="most mean loss added: 0.01, or 1%% of the original's loss (default: that of the file)"
    )
    parser.add_argument("--record", action="store_true", help="store the new verdict and count of looks in the file")


def run(arguments: argparse.Namespace) -> int:
    """Judge the file once more; the looks counted in its verdict split the confidence. 3 where it does not pass."""
    stored = read_verdict(arguments.file)
    from noworse.task import load_task
    from noworse.verify import verify

    task = load_task(arguments.task)
    tolerance: float | str = "1%"
    if arguments.tolerance is not None:
        tolerance = arguments.tolerance
    elif stored is not None:
        tolerance = stored.tolerance
    verdict = verify(
        arguments.file,
        task.model,
        task.loss,
        task.verify,
        tolerance=tolerance,
        task=task,
        looks=1 if stored is None else stored.looks + 1,
        confidence=0.95 if stored is None else stored.confidence,
    )
    if arguments.record:
        restamp(arguments.file, verdict.record())
    print(verdict.to_json() if arguments.json else verdict)
    return 0 if verdict.passed else MISSED


def read_verdict(path: str) -> Verdict | None:
    """The verdict that a file stores, if any; CorruptFile where it is none."""
    with File(path) as file:
        record = file.verdict
    if record is None:
        return None
    try:
        return Verdict.from_record(record)
    except BadInput as error:
        raise CorruptFile(f"the verdict in {path} is unreadable: {error}") from error
