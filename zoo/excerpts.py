"""Excerpts of running English for language models, from the documents of ``zoo.texts``.

Embedded in ``data/excerpts.json.xz``: ``calib`` (400 excerpts), ``development`` (150) and ``verify`` (400), each with
the name of its document: an address (``1790_george_washington_n``) or a chapter (``chapter_1``). The three come from
different documents. ``python -m zoo.excerpts`` downloads the documents and writes the file again, byte for byte.
"""

from __future__ import annotations

import json
import lzma
import random
import re
import sys
from pathlib import Path

from zoo import texts

EXCERPTS = Path(__file__).parent / "data" / "excerpts.json.xz"
LEAST = 1400  # characters of an excerpt: some 300 tokens or more
SIZES = {"calib": 400, "development": 150, "verify": 400}
# of each ten documents: what develops and what is judged are so in texts.py too
SHARES = {"calib": (2, 3, 5, 6, 7, 8, 9), "development": (4,), "verify": (0, 1)}

Excerpt = tuple[str, str]  # the name of its document, and the text


def load(split: str) -> list[Excerpt]:
    """The excerpts of ``"calib"``, ``"development"`` or ``"verify"``."""
    return [(name, text) for name, text in json.loads(lzma.decompress(EXCERPTS.read_bytes()))[split]]


def is_address(name: str) -> bool:
    """Whether a document is a State of the Union address, else it is a chapter of Moby-Dick."""
    return not name.startswith(("chapter", "epilogue"))


def share(documents: dict[str, str], split: str) -> dict[str, str]:
    """The documents that are dealt to a split; all of calibration's may train."""
    return {name: text for i, (name, text) in enumerate(documents.items()) if i % texts.DEAL in SHARES[split]}


def cut(text: str) -> list[str]:
    """Whole sentences one after the other, as few as give ``LEAST`` characters; a shorter rest is left out."""
    found, current = [], ""
    for sentence in re.split(r"(?<=[.!?;])\s+", text):
        current = f"{current} {sentence}".strip()
        if len(current) >= LEAST:
            found.append(current)
            current = ""
    return found


def choose(documents: dict[str, str], seed: int = 0) -> dict[str, list[Excerpt]]:
    """Excerpts of each split, from each of its documents in turn."""
    generator = random.Random(seed)
    chosen = {}
    for split, size in SIZES.items():
        groups = [[(name, excerpt) for excerpt in cut(text)] for name, text in share(documents, split).items()]
        for group in groups:
            generator.shuffle(group)
        generator.shuffle(groups)  # so that addresses and chapters are mixed
        chosen[split] = texts.round_robin(groups, size)
    return chosen


def fetch() -> None:
    """Choose the excerpts from the documents and write ``EXCERPTS``."""
    content = json.dumps(choose(texts.named_documents()), ensure_ascii=False, separators=(",", ":")).encode()
    EXCERPTS.write_bytes(lzma.compress(content, preset=9))


if __name__ == "__main__":
    fetch()
    print(f"wrote {EXCERPTS}", file=sys.stderr)
