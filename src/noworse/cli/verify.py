"""``noworse verify``: the paired test again, on the held-out data of a task."""

import argparse

from noworse.cli.tasks import ADDRESS, TOLERANCE, add_device
from noworse.errors import BadInput, CorruptFile
from noworse.format import File, restamp
from noworse.judge.verdict import Verdict

HELP = "judge a .nwt file against the original model on the held-out data of a task"
MISSED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("task", metavar="TASK", help=ADDRESS)
    parser.add_argument("file", metavar="FILE", help="the .nwt file")
    parser.add_argument("--tolerance", default="1%", help=TOLERANCE)
    parser.add_argument("--confidence", type=float, default=0.95, help="of the bounds, 0.5 to 1 (0.95)")
    parser.add_argument("--look", type=int, default=1, metavar="K", help="which look at these samples this is (1)")
    parser.add_argument("--looks", type=int, default=1, metavar="N", help="looks declared before the first (1)")
    add_device(parser)
    parser.add_argument("--record", action="store_true", help="store the new verdict in the file")


def run(arguments: argparse.Namespace) -> int:
    """Judge the file by what the command line asks for, whatever the file claims; 3 where it does not pass."""
    claimed = read_verdict(arguments.file)
    from noworse.judge.verify import verify_task
    from noworse.task.task import load_task

    asked = {name: getattr(arguments, name) for name in ("tolerance", "confidence", "look", "looks", "device")}
    verdict = verify_task(arguments.file, load_task(arguments.task), **asked)
    if arguments.record:
        restamp(arguments.file, verdict.record())
    print(verdict.to_json() if arguments.json else verdict)
    if claimed is not None and not arguments.json:
        print(f"The file claims: {claimed}")
    return 0 if verdict.passed else MISSED


def read_verdict(path: str) -> Verdict | None:
    """Return the verdict that a file stores, if any; CorruptFile where it is none."""
    with File(path) as file:
        record = file.verdict
    if record is None:
        return None
    try:
        return Verdict.from_record(record)
    except BadInput as error:
        raise CorruptFile(f"the verdict in {path} is unreadable: {error}") from error
