"""The command line: ``noworse compress | quantize | decompose | decompress | inspect | verify | bench``.

Results go to standard output (with ``--json`` as one JSON object), progress and errors to standard error, an error on
one line. Exit codes: 0 done, 1 unexpected failure, 2 usage or bad input (failing functions of a task too), 3 target or
tolerance not met, 4 damaged file.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from noworse.cli import bench, compress, decompose, decompress, inspect, quantize, verify
from noworse.cli.text import printable
from noworse.errors import CorruptFile, NoWorseError, TargetMissed

OK, UNEXPECTED, BAD_INPUT, MISSED, DAMAGED = range(5)
INTERRUPTED = 130  # as shells have it
COMMANDS = (compress, quantize, decompose, decompress, inspect, verify, bench)
EXTRA = frozenset({"torch", "scipy", "rich", "safetensors"})  # packages of noworse[torch]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command with ``arguments`` (those of the process if None) and return its exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of tensors may exceed the terminal's character set
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, ``head`` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except Exception as error:
        if options.debug:
            raise
        return _explain(error)
    return code


def _explain(error: Exception) -> int:
    if isinstance(error, CorruptFile):
        return _fail(f"damaged file: {error}", DAMAGED)
    if isinstance(error, TargetMissed):
        return _fail(str(error), MISSED)
    if isinstance(error, NoWorseError):
        return _fail(str(error), BAD_INPUT)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in EXTRA:
        return _fail(f"{error.name} is not installed: pip install 'noworse[torch]'", BAD_INPUT)
    if isinstance(error, OSError) and error.filename is not None:
        return _fail(f"{error.filename}: {error.strerror}", BAD_INPUT)
    return _fail(f"{type(error).__name__}: {error} (--debug shows where)", UNEXPECTED)


def _fail(message: str, code: int) -> int:
    print("noworse: " + printable(" ".join(message.split())), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    from noworse import __version__

    parser = argparse.ArgumentParser(
        prog="noworse", description="The smallest file for a trained PyTorch model, and proof that it is no worse."
    )
    parser.add_argument("--version", action="version", version=f"noworse {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        own = commands.add_parser(name, parents=[common], help=command.HELP, description=command.HELP)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser
