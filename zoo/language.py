"""Task ``char_gpt``: a small transformer that predicts the next character of English (0.84M parameters).

Texts are those of ``zoo.texts``: State of the Union addresses and Moby-Dick, dealt out as whole documents. A sample is
129 consecutive characters, of which the last 128 are predicted; its loss is their mean code length in bits, and the
metric the same over all samples, so both are bits per character. ``verify`` takes the beginning of every judged pair
of passages, ``calib`` all of the calibration passages in windows; the net was trained on their documents.

``python -m zoo.language`` downloads the documents (npm) and trains the net again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.task.task import Task
from zoo import texts
from zoo.fitting import Recipe, fit, restore, save
from zoo.nets import TransformerBlock

CONTEXT = 128
PRINTABLE = 95  # ASCII from space to tilde; index 95 stands for every other character
SYMBOLS = PRINTABLE + 1
TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "—": "-", "–": "-"})
BATCH = 50
RECIPE = Recipe("adamw", 3e-3, 1e-1, epochs=4, batch=12, bfloat16=True)
STEPS = 350  # iterations that count as an epoch


def waves(length: int, dim: int) -> Tensor:
    """Sines and cosines (T, C) that positions start as: neighbours are then easily told (Vaswani et al. 2017)."""
    rates = 1000 ** -(torch.arange(dim // 2) / (dim // 2))
    angles = torch.arange(length)[:, None] * rates
    return 0.5 * torch.cat([angles.sin(), angles.cos()], 1)


class CharGPT(nn.Module):
    """GPT of four pre-norm blocks, width 128, four heads, learned positions, causal."""

    def __init__(self, dim: int = 128, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, dim)
        self.pos = nn.Parameter(waves(CONTEXT, dim)[None])
        self.blocks = nn.Sequential(*[TransformerBlock(dim, heads, causal=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, SYMBOLS)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, symbols: Tensor) -> Tensor:  # (B, T) -> (B, T, 96), T <= 128
        x = self.embedding(symbols) + self.pos[:, : symbols.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def encode(text: str) -> Tensor:
    """Symbols (N,) int64 of a text of N characters."""
    codes = torch.tensor([ord(c) for c in text.translate(TYPOGRAPHY)], dtype=torch.int64) - ord(" ")
    return torch.where((codes >= 0) & (codes < PRINTABLE), codes, PRINTABLE)


def samples(symbols: Tensor) -> tuple[Tensor, Tensor]:
    """Windows (B, 129) as what the net reads and what follows each character, both (B, 128)."""
    return symbols[:, :-1].contiguous(), symbols[:, 1:].contiguous()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Bits per character of every sample, (B,)."""
    return bits_per_character(model(batch[0]), batch)


def bits_per_character(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean code length of the characters of every sample, (B,), of logits (B, T, K)."""
    nats = F.cross_entropy(outputs.transpose(1, 2), batch[1], reduction="none")  # (B, T)
    return nats.mean(1) / math.log(2)


def beginnings(pairs: Sequence[texts.Pair]) -> tuple[Tensor, Tensor]:
    """The first 129 characters of every pair of passages, as samples."""
    return samples(torch.stack([encode(f"{a} {b}")[: CONTEXT + 1] for a, b in pairs]))


def windows(passages: Sequence[str]) -> Tensor:
    """The passages one after the other, cut into what the net reads: (N, 128)."""
    return encode(" ".join(passages)).unfold(0, CONTEXT, CONTEXT).contiguous()


def build(split: str = "verify") -> Task:
    """The task judged on ``"verify"`` (1,000 samples) or on ``"development"`` (300 of other documents)."""
    calib, development, verify = texts.load()
    symbols, following = beginnings(development if split == "development" else verify)
    return Task(
        model=restore("char_gpt", CharGPT(), "python -m zoo.language"),
        loss=loss,
        calib=list(windows(calib).split(BATCH)),
        verify=list(zip(symbols.split(BATCH), following.split(BATCH), strict=True)),
        score=bits_per_character,
        name="char_gpt" + ("" if split == "verify" else f" ({split})"),
    )


def char_gpt() -> Task:
    """Char-GPT, 0.83M parameters, on State of the Union addresses and Moby-Dick."""
    return build()


def dev_task() -> Task:
    """The same task judged on other documents, for choosing settings."""
    return build("development")


def train(documents: list[str], recipe: Recipe = RECIPE) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train on those documents that are dealt to calibration."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    text = encode(" ".join(d for i, d in enumerate(documents) if i % texts.DEAL in texts.CALIB_SHARE))
    _, development, _ = texts.load()
    held_out = beginnings(development)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(STEPS):
            starts = torch.randint(len(text) - CONTEXT, (recipe.batch, 1), generator=generator)
            yield samples(text[starts + torch.arange(CONTEXT + 1)])

    model = CharGPT()
    log = fit(model, epoch, STEPS, lambda m, b: loss(m, b).mean(),
              lambda m: {"dev_loss": mean_loss(m, held_out)}, recipe)
    return model, log


@torch.no_grad()
def mean_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> float:
    """Bits per character of all samples together."""
    return loss(model, batch).double().mean().item()


def main() -> None:
    torch.set_num_threads(1)
    model, log = train(texts.documents())
    _, _, verify = texts.load()
    save("char_gpt", model, RECIPE, log, {"test_loss": round(mean_loss(model, beginnings(verify)), 5)})


if __name__ == "__main__":
    main()
