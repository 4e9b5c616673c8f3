"""README.md and docs/ are as the stored results make them; files, options and calls that they name exist."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import noworse
from benchmarks.harness.page import MOST, ROOT, filled, longest, marks, pages
from benchmarks.harness.row import RESULTS, read
from benchmarks.publish import TABLES
from noworse import sensitivity
from noworse.cli import _parser
from noworse.tune import seams

PAGES = {str(page.relative_to(ROOT)): page for page in [*pages(), ROOT / "zoo" / "README.md"]}
COMMAND = re.compile(r"python -m ((?:benchmarks|zoo|fuzz|noworse)[\w.]*)((?: --?[\w-]+| [\w-]+)*)")
OTHERS = ("--nproc-per-node", "--no-deps")  # flags of torchrun and pip
SUITES = sorted(path.stem for path in RESULTS.glob("*.json"))


@pytest.mark.parametrize("name", PAGES)
def test_relative_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", PAGES[name].read_text())
    missing = [link for link in links if "://" not in link and not (PAGES[name].parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_those_of_the_stored_rows_and_short(name: str) -> None:
    text = PAGES[name].read_text()
    assert filled(text, TABLES) == text, "run python -m benchmarks.publish"
    assert longest(text) <= MOST


def test_every_table_stands_on_a_page() -> None:
    assert {mark for page in PAGES.values() for mark in marks(page.read_text())} == set(TABLES)


@pytest.mark.parametrize("name", PAGES)
def test_commands_name_modules_and_sections_that_exist(name: str) -> None:
    for module, words in COMMAND.findall(PAGES[name].read_text()):
        place = module.removesuffix(".").split(".")
        if place[-1] == "NAME":
            continue
        places = [ROOT / Path(*place), ROOT / "src" / Path(*place), ROOT / "benchmarks" / "suites" / place[-1]]
        assert any(path.with_suffix(".py").exists() or path.is_dir() for path in places), module
        only = re.search(r"--only((?: [\w-]+)+)", words)
        if only and place[0] == "benchmarks":
            sections = {row.section for row in read(RESULTS / f"{place[1]}.json")}
            assert set(only[1].split()) <= sections, f"{module}{words}"


@pytest.mark.parametrize("name", SUITES)
def test_stored_rows_are_of_sections_of_their_suite_and_named_once(name: str) -> None:
    suite = pytest.importorskip(f"benchmarks.suites.{name}").SUITE
    rows = read(RESULTS / f"{name}.json")
    assert suite.name == name
    assert {row.section for row in rows} <= set(suite.sections)
    assert len({row.name for row in rows}) == len(rows)
    assert set(suite.quick) <= set(suite.sections)


def test_benchmarks_are_run_and_listed_by_their_short_names() -> None:
    listed = subprocess.run([sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(SUITES) <= set(re.findall(r"benchmarks\.(\w+) ", listed.stdout))
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.anchors", "--show", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert len(shown.stdout.splitlines()) == len(read(RESULTS / "anchors.json"))
    assert shown.returncode == int("MISSED" in shown.stdout)


def prose(name: str) -> str:
    """A page without what is gone, which docs/tried.md keeps, and without tables that commands wrote."""
    text = re.sub(r"<!-- [\w: ,0-9-]+written by .*?<!-- end -->", "", PAGES[name].read_text(), flags=re.S)
    return re.sub(r"\n## Gone\n.*?\n## ", "\n## ", text, flags=re.S)


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_exist(name: str) -> None:
    text = re.sub(r"^```.*?^```$|^    .*?$", "", prose(name), flags=re.M | re.S)  # blocks name files of the reader
    named = re.findall(r"(?<![\w/.-])(?:[\w-]+/)+[\w-]+\.(?:py|hpp|cpp|md|json)\b(?!\.)", text)
    named += re.findall(r"`([\w-]+\.(?:py|hpp|cpp|md|json))(?::\w+)?`", text)
    roots = [ROOT, ROOT / "src" / "noworse", PAGES[name].parent]
    missing = [path for path in named if not any((root / path).exists() for root in roots)]
    assert not set(missing) - {"path/file.py", "file.py", "weights/NAME.json"}, "a file has moved"


def arguments() -> set[str]:
    """Names of options, plug-ins' kinds, fields of tasks, and arguments of what the package offers."""
    offered = [getattr(noworse, each) for each in noworse.__all__] + [sensitivity.measure]
    offered += [method for each in offered if isinstance(each, type) for method in vars(each).values()]
    found = {field.name for each in (noworse.Options, noworse.Task) for field in dataclasses.fields(each)} | set(
        seams.NAMES
    )
    for each in offered:
        with contextlib.suppress(TypeError, ValueError):
            found |= set(inspect.signature(each).parameters)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_options_that_are_named_exist(name: str) -> None:
    text = prose(name)
    named = [
        part for span in re.findall(r"`([^`\n]+)`", text) for part in re.findall(r"(?<![\w.\"'-])([a-z_]\w*)=", span)
    ]
    listed = re.findall(r"options? ((?:`\w+`(?:, | and )?)+)", text)
    named += [each for names in listed for each in re.findall(r"`(\w+)`", names)]
    assert not set(named) - arguments() - {"reduction", "weights_only"}, "these two are torch's"


@pytest.mark.parametrize("name", PAGES)
def test_plug_ins_that_are_named_exist(name: str) -> None:
    for kind, plug_in in re.findall(r'"?(transform|rate|kernel|tuner)"?:? ["`](\w+)["`]', prose(name)):
        own = re.findall(rf'register\("{kind}", "(\w+)"', PAGES[name].read_text())
        assert plug_in in {*seams.NAMES[kind], *own}, f"{kind} {plug_in}"


@pytest.mark.parametrize("name", PAGES)
def test_flags_of_commands_exist(name: str) -> None:
    parsers = next(action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)).choices
    for verb, rest in re.findall(r"noworse (\w+)((?: +[^`#\n]+)?)", prose(name)):
        if verb in parsers:
            assert set(re.findall(r"(?<!\S)--[\w-]+", rest)) <= set(parsers[verb]._option_string_actions), verb
    known = {flag for parser in parsers.values() for flag in parser._option_string_actions}
    folders = [ROOT / each for each in ("benchmarks", "zoo", "fuzz", "attacks")]
    ours = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", prose(name)):
        assert flag in known or f'"{flag}"' in ours or flag in OTHERS, flag


@pytest.mark.parametrize("name", PAGES)
def test_calls_fit_what_they_call(name: str) -> None:
    """Of blocks that are Python; that of a page on one's own things runs (tests/test_extending.py)."""
    for code in re.findall(r"^```python\n(.*?)^```$", PAGES[name].read_text(), re.M | re.S):
        for node in ast.walk(ast.parse(code)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value
            if not (isinstance(owner, ast.Name) and owner.id in ("nw", "noworse")):
                continue
            given = {each.arg: None for each in node.keywords if each.arg}
            inspect.signature(getattr(noworse, node.func.attr)).bind_partial(*node.args, **given)
            assert set(given) <= arguments()
