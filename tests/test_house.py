"""The rules of docs/architecture.md, read off the source: rooms, the direction of imports, sizes, hooks, papers."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType

import pytest

from noworse.propose.bits import strategy as bits
from noworse.propose.ranks import factoring as ranks
from noworse.tune import seams
from tests.tiny import ConvNet, run, task

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "src" / "noworse"
PAGE = ROOT / "docs" / "architecture.md"
# from the top floor down: a room imports only from rooms that come later
ROOMS = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.M)
NUMPY_ALONE = {"codec", "representation", "format", "checkpoint", "datafree", "io", "errors", "cli", "report"}
DOORS = ("__init__", "__main__")  # what users import and run; nothing in the house imports them
ROOT_FILES, LONGEST, MOST_ARGUMENTS, MOST_HOPS = 8, 60, 7, 12
WIDE = {  # functions of more arguments than that, and why
    "jobs/compress.py": {"compress": "a verb", "compress_task": "a verb"},
    "jobs/quantize.py": {"quantize": "a verb", "quantize_task": "a verb"},
    "jobs/decompose.py": {"decompose": "a verb", "decompose_task": "a verb"},
    "model/attention.py": {"forward": "stands for nn.MultiheadAttention, whose arguments these are"},
}
HOOKED = {  # files that register hooks, and why
    "survey/capture.py": "the one place that looks at layers",
    "model/hooks.py": "how long hooks live",
    "model/quantized.py": "a model whose layers round is made of hooks, which stay",
    "tune/attach.py": "no look at a layer: a weight gives its memory to its gradient",
}
ELSEWHERE = {"file.py", "path/file.py", "json.py", "train_final.py"}  # of users, of Python, of the L² code
PAPERS = {  # files that may name what the papers call their methods, and why
    "tune/seams.py": "the table of plug-ins",
    "tune/options.py": "the table of presets",
    "propose/bits/strategy.py": "the table of strategies for bits",
    "propose/ranks/factoring.py": "the table of strategies for ranks",
}


@cache
def sources() -> dict[str, ast.Module]:
    """Every file of the package by its path in it, parsed."""
    files = sorted(HOUSE.rglob("*.py"))
    return {str(path.relative_to(HOUSE)): ast.parse(path.read_text()) for path in files}


def room_of(module: str) -> str:
    """The room of "noworse.room.file", or of "room/file.py"."""
    return re.split(r"[./]", module.removeprefix("noworse."))[0]


def modules() -> dict[str, str]:
    """Files, those of native code included, by the names that they are imported under."""
    files = [*sources(), *(str(path.relative_to(HOUSE)) for path in HOUSE.rglob("*.pyi"))]
    return {"noworse." + name.rpartition(".")[0].removesuffix("/__init__").replace("/", "."): name for name in files}


def imports(tree: ast.AST) -> Iterator[str]:
    """What a file, or a part of it, imports of the package, wherever it does so: modules, or things in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("noworse."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "noworse":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows() -> Iterator[tuple[str, str, str]]:
    """Imports from room to room: the file, its room, and the other one; what stands under TYPE_CHECKING included."""
    for name, tree in sources().items():
        room = room_of(name)
        if room.removesuffix(".py") not in DOORS:
            others = {room_of(each) for each in imports(tree)} - {room, "__version__"}
            yield from ((name, room, other) for other in others)


def test_every_room_has_its_place() -> None:
    found = {path.name for path in HOUSE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    found |= {path.stem for path in HOUSE.glob("*.py")} - set(DOORS)
    assert found == set(ROOMS)


def test_no_arrow_leads_upwards() -> None:
    places = {room: place for place, room in enumerate(ROOMS)} | {"errors.py": len(ROOMS), "io.py": ROOMS.index("io")}
    upwards = {(name, other) for name, room, other in arrows() if places[room] > places[other]}
    assert not upwards


def test_papers_are_reached_by_name_alone() -> None:
    assert not {name for name, _, other in arrows() if other == "papers"}
    targets = [t for table in (bits.PRESETS, ranks.PRESETS, *seams.NAMES.values()) for t in table.values()]
    assert any(isinstance(target, str) and target.startswith("noworse.papers.") for target in targets)


def test_no_circle_of_files_is_imported_at_once() -> None:
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, tree in sources().items():
        now = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        named = {each for node in now for each in imports(node)}
        homes = {known.get(each) or known.get(each.rpartition(".")[0]) for each in named}
        graph[name] = {home for home in homes if home and home != name}
    assert set(graph) <= set(TopologicalSorter(graph).static_order())  # CycleError names the circle


@pytest.mark.parametrize("name", [name for name in sources() if room_of(name).removesuffix(".py") in NUMPY_ALONE])
def test_rooms_of_files_need_numpy_alone(name: str) -> None:
    now = [node for node in sources()[name].body if isinstance(node, (ast.Import, ast.ImportFrom))]
    named = {alias.name for node in now if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in now if isinstance(node, ast.ImportFrom)}
    assert {each.split(".")[0] for each in named} <= {"numpy", "noworse", *sys.stdlib_module_names}


def test_the_root_is_not_a_room() -> None:
    assert len([path for path in HOUSE.iterdir() if path.is_file()]) <= ROOT_FILES


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of every file."""
    for name, tree in sources().items():
        found = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
        yield from ((name, node) for node in found)


def test_functions_are_short() -> None:
    lengths = {(name, node.name): (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert not {place: length for place, length in lengths.items() if length > LONGEST}


def test_functions_have_few_arguments() -> None:
    wide: dict[str, set[str]] = {}
    for name, node in functions():
        given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if len([argument for argument in given if argument not in ("self", "cls")]) > MOST_ARGUMENTS:
            wide.setdefault(name, set()).add(node.name)
    assert wide == {name: set(known) for name, known in WIDE.items()}


def test_hooks_stand_in_few_files() -> None:
    for name, tree in sources().items():
        calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
        called = {func.attr for func in calls if isinstance(func, ast.Attribute)}
        assert name in HOOKED or not {attr for attr in called if re.fullmatch(r"register_.*hook", attr)}, name


def names_of_papers() -> set[str]:
    """What only the papers' methods are called: presets, plug-ins, packages."""
    names = {"paper", "papers", "l2", "llc"}
    for kind in ("rate", "tuner"):  # names of kernels and transforms are also those of curves in a file
        places = seams.NAMES[kind].items()
        names |= {name for name, place in places if isinstance(place, str) and place.startswith(seams.L2)}
    return names


@pytest.mark.parametrize("name", [name for name in sources() if room_of(name) != "papers" and name not in PAPERS])
def test_nothing_depends_on_what_a_paper_is_called(name: str) -> None:
    tree, names = sources()[name], names_of_papers()
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    used = {node.value for node in texts if id(node) not in statements}
    assert not {text for text in used if text in names or "noworse.papers" in text}


def test_exceptions_are_still_needed() -> None:
    assert set(HOOKED) | set(PAPERS) | set(WIDE) <= set(sources())
    for name in PAPERS:
        assert "paper" in (HOUSE / name).read_text()
    for name in HOOKED:
        assert "hook" in (HOUSE / name).read_text()


@pytest.mark.parametrize("name", sources())
def test_files_that_comments_name_exist(name: str) -> None:
    named = re.findall(r"(?<![\w/.:])(?:[\w-]+/)*[\w-]+\.(?:py|md)\b", (HOUSE / name).read_text())
    places = (HOUSE, ROOT, (HOUSE / name).parent)
    missing = {path for path in named if not any((place / path).exists() for place in places)}
    assert not missing - ELSEWHERE


def hops(way: str) -> list[tuple[str, str]]:
    """File and function of each numbered hop of a section of the page."""
    section = PAGE.read_text().split(f"## {way}\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/]+\.py)` `([\w.]+)`: ", section, re.M)


def line_of(name: str, function: str) -> int:
    """Where a function stands that a page names, as code objects know it."""
    body: list[ast.stmt] = sources()[name].body
    node: ast.stmt | None = None
    for part in function.split("."):
        node = next((each for each in body if getattr(each, "name", "") == part), None)
        assert node is not None, f"{name} has no {function}"
        body = getattr(node, "body", [])
    decorators = getattr(node, "decorator_list", [])
    return (decorators[0] if decorators else node).lineno  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """File and first line of every function of the package that a small compression calls, in this order."""
    seen: list[tuple[str, int]] = []

    def watch(frame: FrameType, event: str, value: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(HOUSE)):
            seen.append((str(Path(code.co_filename).relative_to(HOUSE)), code.co_firstlineno))

    job = task(ConvNet(), 1, 12, 12)
    sys.setprofile(watch)
    try:
        run(job, tmp_path_factory.mktemp("house") / "m.nwt", "4 bits", iterations=4, rounding="compensated")
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("way", ["A weight's way", "A batch's way"])
def test_ways_are_those_that_a_compression_goes(way: str, called: list[tuple[str, int]]) -> None:
    stops = hops(way)
    assert 8 < len(stops) <= MOST_HOPS
    left = iter(called)
    for name, function in stops:
        assert (name, line_of(name, function)) in left, f"{name} {function} is not called after the hop before it"
