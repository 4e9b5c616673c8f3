"""The command line as a whole: damaged and absent files, usage, help."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.outcome import Run, fails


@pytest.mark.parametrize("command", ["inspect", "decompress", "verify"])
@pytest.mark.parametrize("damage", ["flip", "cut", "text", "empty"])
def test_damaged_files(folder: Path, mixed_path: Path, noworse: Callable[..., Run], command: str, damage: str) -> None:
    content = bytearray(mixed_path.read_bytes())
    if damage == "flip":
        content[20] ^= 1
    else:
        content = {"cut": content[:-7], "text": bytearray(b"not a model"), "empty": bytearray()}[damage]
    (folder / "bad.nwt").write_bytes(content)
    arguments = {"decompress": ["bad.nwt", "-o", "bad.safetensors"], "verify": ["tasks.py:tiny", "bad.nwt"]}
    fails(noworse(command, *arguments.get(command, ["bad.nwt"])), 4, "damaged file: ")
    assert not list(folder.glob("*bad.safetensors*"))


def test_files_that_are_not_there_or_not_writable(mixed_path: Path, noworse: Callable[..., Run]) -> None:
    fails(noworse("inspect", "absent.nwt"), 2, "absent.nwt: No such file or directory")
    fails(noworse("decompress", "absent.nwt", "-o", "a.safetensors"), 2, "absent.nwt")
    fails(noworse("decompress", mixed_path.name, "-o", "no/where.safetensors"), 2, "cannot write no/where")
    fails(noworse("inspect", mixed_path.name, "--max-bytes", 10), 4, "10")


@pytest.mark.parametrize("arguments", [[], ["shrink"], ["compress", "tasks.py:tiny"], ["inspect"], ["inspect", "--no"]])
def test_usage_errors(noworse: Callable[..., Run], arguments: list[str]) -> None:
    found = noworse(*arguments)
    assert found.returncode == 2
    assert found.stderr.startswith("usage: ")
    assert found.stdout == ""


def test_version_help_and_module(noworse: Callable[..., Run]) -> None:
    from noworse import __version__

    assert noworse("--version").stdout == f"noworse {__version__}\n"
    text = noworse("compress", "--help").stdout
    for option in ("target", "tolerance", "seed", "iterations", "coder", "set", "preset", "options", "quiet", "json"):
        assert f"--{option}" in text
    shown = subprocess.run([sys.executable, "-m", "noworse", "--version"], capture_output=True, text=True, check=True)
    assert __version__ in shown.stdout
