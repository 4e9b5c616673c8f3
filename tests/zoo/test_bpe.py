from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.errors import BadInput
from zoo import bpe

TEXT = "the cat sat on the mat, the other cat; a hat that the cat ate. " * 3 + "\n1865, 1866"


def learned_slowly(text: str, size: int) -> list[bpe.Pair]:
    """All pairs of all words counted again for every merge."""
    words = [tuple(word.encode()) for word in bpe.WORD.findall(text)]
    merges: list[bpe.Pair] = []
    while len(merges) < size - bpe.BYTES:
        counts: Counter[bpe.Pair] = Counter()
        for word in words:
            counts.update(itertools.pairwise(word))
        pair = min(counts, key=lambda p: (-counts[p], p))
        words = [bpe.joined(word, pair, bpe.BYTES + len(merges)) for word in words]
        merges.append(pair)
    return merges


@pytest.mark.parametrize(("text", "count"), [(TEXT, 26), ("aaaaa aaa baaab ab", 4), ("naïve café, naïve “quotes”", 9)])
def test_merges_are_those_of_counting_again(text: str, count: int) -> None:
    assert bpe.learn(text, bpe.BYTES + count) == learned_slowly(text, bpe.BYTES + count)


def test_too_short_a_text_is_named() -> None:
    with pytest.raises(BadInput, match="pairs for 282 tokens: expected 300"):
        bpe.learn(TEXT, 300)


@settings(max_examples=50)
@given(st.text())
def test_texts_survive(text: str) -> None:
    encoder = bpe.Encoder(bpe.learn(TEXT, bpe.BYTES + 26))
    assert encoder.decode(encoder.encode(text)) == text


def test_frequent_words_become_one_token_and_pairs_are_merged_in_their_order(tmp_path: Path) -> None:
    bpe.write(tmp_path / "merges", bpe.learn(TEXT, bpe.BYTES + 26))
    encoder = bpe.read(tmp_path / "merges")
    assert [encoder.tokens[t] for t in encoder.encode("the cat, the")] == [b"the", b" cat", b",", b" the"]
    plain = bpe.Encoder([(ord("b"), ord("c")), (ord("a"), ord("b"))])  # the earlier goes first, though further right
    assert plain.encode("abc") == [ord("a"), bpe.BYTES]


def test_as_another_library_has_it() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    merges = bpe.learn(TEXT, bpe.BYTES + 26)
    ours = bpe.Encoder(merges)
    names = [chr(0x100 + n) if n < bpe.BYTES else "" for n in range(len(ours.tokens))]  # a character for each byte
    for n, (left, right) in enumerate(merges):
        names[bpe.BYTES + n] = names[left] + names[right]
    model = tokenizers.models.BPE(
        vocab={name: n for n, name in enumerate(names)}, merges=[(names[a], names[b]) for a, b in merges]
    )
    theirs = tokenizers.Tokenizer(model)
    for word in set(bpe.WORD.findall(TEXT)) | {" catastrophe", "thehat"}:
        assert theirs.encode("".join(names[b] for b in word.encode())).ids == ours.encode(word)
