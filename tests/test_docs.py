"""README.md and docs/ are as the stored results make them, and what they point to exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.page import MOST, ROOT, filled, longest, marks, pages
from benchmarks.harness.row import RESULTS, read
from benchmarks.publish import TABLES

PAGES = {str(page.relative_to(ROOT)): page for page in [*pages(), ROOT / "zoo" / "README.md"]}
COMMAND = re.compile(r"python -m ((?:benchmarks|zoo|fuzz|noworse)[\w.]*)((?: --?[\w-]+| [\w-]+)*)")
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
