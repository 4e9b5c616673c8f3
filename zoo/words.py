"""Task ``words``: a small Llama that predicts the next token of English (6.3M parameters, trained here, in bfloat16).

Texts are those of ``zoo.excerpts``: State of the Union addresses and Moby-Dick, dealt out as whole documents. A sample
is the first 129 tokens of an excerpt, of which the last 128 are predicted; its loss is their mean code length in nats,
the metric the perplexity over all of them. ``calib`` is from documents that the net was trained on. The weights are
bfloat16 as shipped; the task widens them to float32, exactly, so that differences of losses are not those of rounding.

``python -m zoo.words`` downloads the documents (npm), learns the vocabulary where its file is not there, and trains the
net again; it goes on where it was interrupted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.task.task import Task
from zoo import bpe, excerpts, texts
from zoo.fitting import Recipe, fit, restore, save
from zoo.language import TYPOGRAPHY
from zoo.llama import Llama

CONTEXT = 128
VOCABULARY = 4096
MERGES = Path(__file__).parent / "data" / "words.merges"
CHECKPOINT = Path("work") / "words.pt"  # of the training, in the working directory
BATCH = 25
RECIPE = Recipe("adamw", 3e-3, 1e-1, epochs=3, batch=16, bfloat16=True, anneal=1)
STEPS = 235  # iterations that count as an epoch: a quarter of the tokens

Sample = tuple[Tensor, Tensor]  # tokens and what follows each, both (B, T)


def net() -> Llama:
    """Three blocks of width 384, six heads of queries, two of keys and values."""
    return Llama(VOCABULARY, dim=384, depth=3, heads=6, shared=2, hidden=1024)


def windows(encoder: bpe.Encoder, chosen: Sequence[excerpts.Excerpt]) -> Tensor:
    """The first 129 tokens of every excerpt, (N, 129)."""
    return torch.tensor([encoder.encode(text.translate(TYPOGRAPHY))[: CONTEXT + 1] for _, text in chosen])


def samples(tokens: Tensor) -> Sample:
    """Windows (B, T + 1) as what the net reads and what follows each token."""
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def batches(tokens: Tensor, size: int = BATCH) -> list[Sample]:
    return [samples(part) for part in tokens.split(size)]


def loss(model: nn.Module, batch: Sample) -> Tensor:
    """Nats per token of every sample, (B,)."""
    tokens, following = batch
    nats = F.cross_entropy(model(tokens).flatten(0, 1), following.flatten(), reduction="none")  # (B·T,)
    return nats.unflatten(0, following.shape).mean(1)


@torch.no_grad()
def nats_per_token(model: nn.Module, batches: Iterable[Any]) -> float:
    """Mean code length over all tokens predicted."""
    return torch.cat([loss(model, batch) for batch in batches]).double().mean().item()


def perplexity(model: nn.Module, batches: Iterable[Any]) -> float:
    """exp of the mean code length: among how many tokens the model is as unsure as if all were as likely."""
    return math.exp(nats_per_token(model, batches))


def build(split: str = "verify") -> Task:
    """The task judged on ``"verify"`` (400 samples) or on ``"development"`` (150 of other documents)."""
    encoder = bpe.read(MERGES)
    return Task(
        model=restore("words", net(), "python -m zoo.words"),
        loss=loss,
        calib=batches(windows(encoder, excerpts.load("calib"))),
        verify=batches(windows(encoder, excerpts.load(split))),
        metric=perplexity,
        name="words" + ("" if split == "verify" else f" ({split})"),
    )


def words() -> Task:
    """A Llama of 6.3M parameters on State of the Union addresses and Moby-Dick."""
    return build()


def dev_task() -> Task:
    """The same task judged on other documents, for choosing settings."""
    return build("development")


def train(encoder: bpe.Encoder, text: str, recipe: Recipe = RECIPE) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train on a text, from the last epoch in ``CHECKPOINT`` where there is one."""
    torch.manual_seed(recipe.seed)
    model = net()
    tokens = torch.tensor(encoder.encode(text))
    held_out = batches(windows(encoder, excerpts.load("development")))

    def epoch() -> Iterator[Sample]:
        for _ in range(STEPS):
            starts = torch.randint(len(tokens) - CONTEXT, (recipe.batch, 1))
            yield samples(tokens[starts + torch.arange(CONTEXT + 1)])

    CHECKPOINT.parent.mkdir(exist_ok=True)
    log = fit(model, epoch, STEPS, lambda m, b: loss(m, b).mean(),
              lambda m: {"dev_loss": nats_per_token(m, held_out)}, recipe, CHECKPOINT)
    return model, log


def main() -> None:
    torch.set_num_threads(1)
    documents = excerpts.share(texts.named_documents(), "calib")
    text = "\n".join(documents.values()).translate(TYPOGRAPHY)
    if not MERGES.exists():
        bpe.write(MERGES, bpe.learn(text, VOCABULARY))
    encoder = bpe.read(MERGES)
    model, log = train(encoder, text)
    model.bfloat16()
    shipped, scores = copy.deepcopy(model).float(), {}
    for key, split in (("dev_loss", "development"), ("test_loss", "verify")):
        scores[key] = round(nats_per_token(shipped, batches(windows(encoder, excerpts.load(split)))), 5)
    save("words", model, RECIPE, log, scores)


if __name__ == "__main__":
    main()
