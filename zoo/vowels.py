"""Task ``vowels``: a GRU encoder-decoder with attention that restores the vowels of English (0.37M parameters).

Texts are those of ``zoo.texts``. A sample is 64 characters: the encoder, a bidirectional GRU, reads them without their
vowels, packed to their length, and the decoder, a GRU of two layers, predicts each character from those before it and
from what it attends to. A sample's loss is its mean code length in bits per character; the metric is the share of
characters whose likeliest prediction is right, in per cent. ``verify`` takes the beginning of every judged pair of
passages, ``calib`` windows of the calibration passages; the net was trained on their documents.

``python -m zoo.vowels`` downloads the documents (npm) and trains the net again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from noworse.task.task import Task
from zoo import texts
from zoo.classify import accuracy_percent
from zoo.fitting import Recipe, fit, restore, save
from zoo.language import TYPOGRAPHY

LENGTH = 64
ALPHABET = " abcdefghijklmnopqrstuvwxyz.,;'-"  # symbols 1, 2, ...; 0 is padding, and what comes before a text
SYMBOLS = len(ALPHABET) + 2  # the last stands for every other character
VOWELS = torch.tensor([1 + ALPHABET.index(c) for c in "aeiou"])
BATCH = 50
CALIB = 4000
RECIPE = Recipe("adamw", 3e-3, 1e-2, epochs=4, batch=32)
STEPS = 400  # iterations that count as an epoch


class Restorer(nn.Module):
    """A bidirectional GRU, a GRU of two layers, and dot-product attention between them."""

    def __init__(self, embedded: int = 48, encoded: int = 96, hidden: int = 144) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, embedded, padding_idx=0)
        self.encoder = nn.GRU(embedded, encoded, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(embedded, hidden, num_layers=2, batch_first=True, dropout=0.1)
        self.query = nn.Linear(hidden, 2 * encoded)
        self.mix = nn.Linear(hidden + 2 * encoded, hidden)
        self.head = nn.Linear(hidden, SYMBOLS)

    def forward(self, consonants: Tensor, before: Tensor) -> Tensor:
        """Return logits (B, T, 34) from consonants (B, S), padded, and the characters before each (B, T)."""
        lengths = (consonants > 0).sum(1).clamp_(min=1).cpu()
        packed = pack_padded_sequence(self.embedding(consonants), lengths, batch_first=True, enforce_sorted=False)
        encoded, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=consonants.shape[1])
        states, _ = self.decoder(self.embedding(before))
        scores = self.query(states) @ encoded.transpose(1, 2) / math.sqrt(encoded.shape[2])
        weights = scores.masked_fill((consonants == 0)[:, None], -1e9).softmax(-1)
        return self.head(torch.tanh(self.mix(torch.cat([states, weights @ encoded], -1))))


def encode(text: str) -> Tensor:
    """Symbols (N,) int64 of a text of N characters, lower case."""
    return torch.tensor([1 + ALPHABET.find(c) or SYMBOLS - 1 for c in text.translate(TYPOGRAPHY).lower()])


def samples(characters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Texts (B, T) as their consonants (B, S), what comes before each character (B, T), and the characters."""
    consonants = pad_sequence([text[~torch.isin(text, VOWELS)] for text in characters], batch_first=True)
    return F.pad(consonants, (0, LENGTH - consonants.shape[1])), F.pad(characters, (1, -1)), characters


def forward(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    """Logits (B, T, 34) of a batch, with its characters or without."""
    return model(batch[0], batch[1])


def loss(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    """Bits per character of every sample, (B,)."""
    return F.cross_entropy(forward(model, batch).transpose(1, 2), batch[2], reduction="none").mean(1) / math.log(2)


def beginnings(pairs: Sequence[texts.Pair]) -> tuple[Tensor, Tensor, Tensor]:
    """The first 64 characters of every pair of passages, as samples."""
    return samples(torch.stack([encode(f"{a} {b}"[:LENGTH]) for a, b in pairs]))


def windows(passages: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """The passages one after the other, cut into samples."""
    return samples(encode(" ".join(passages)).unfold(0, LENGTH, LENGTH)[:CALIB])


def batches(parts: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Batches of fifty."""
    return list(zip(*(part.split(BATCH) for part in parts), strict=True))


def build(split: str = "verify") -> Task:
    """The task judged on ``"verify"`` (1,000 samples) or on ``"development"`` (300 of other documents)."""
    calib, development, verify = texts.load()
    return Task(
        model=restore("vowels", Restorer(), "python -m zoo.vowels"),
        loss=loss,
        calib=batches(windows(calib)[:2]),
        verify=batches(beginnings(development if split == "development" else verify)),
        score=accuracy_percent,
        forward=forward,
        name="vowels" + ("" if split == "verify" else f" ({split})"),
    )


def vowels() -> Task:
    """GRU encoder-decoder, 0.37M parameters, on State of the Union addresses and Moby-Dick."""
    return build()


def dev_task() -> Task:
    """The same task judged on other documents, for choosing settings."""
    return build("development")


@torch.no_grad()
def scores(model: nn.Module, pairs: Sequence[texts.Pair], name: str) -> dict[str, float]:
    """Mean loss and accuracy over the beginnings of pairs of passages."""
    batch = beginnings(pairs)
    mean = loss(model, batch).double().mean().item()
    right = accuracy_percent(forward(model, batch), batch).mean().item()
    return {f"{name}_loss": round(mean, 5), f"{name}_accuracy": round(right, 2)}


def train(documents: list[str], recipe: Recipe = RECIPE) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train on those documents that are dealt to calibration."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    text = encode(" ".join(d for i, d in enumerate(documents) if i % texts.DEAL in texts.CALIB_SHARE))
    _, development, _ = texts.load()

    def epoch() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for _ in range(STEPS):
            starts = torch.randint(len(text) - LENGTH, (recipe.batch, 1), generator=generator)
            yield samples(text[starts + torch.arange(LENGTH)])

    model = Restorer()
    log = fit(model, epoch, STEPS, lambda m, b: loss(m, b).mean(), lambda m: scores(m, development, "dev"), recipe)
    return model, log


def main() -> None:
    torch.set_num_threads(1)
    model, log = train(texts.documents())
    _, _, verify = texts.load()
    save("vowels", model, RECIPE, log, scores(model, verify, "test"))


if __name__ == "__main__":
    main()
