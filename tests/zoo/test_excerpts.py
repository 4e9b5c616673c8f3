from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from zoo import excerpts, texts


def test_embedded_excerpts_are_of_different_documents_and_long_enough() -> None:
    names: list[set[str]] = []
    every: list[str] = []
    for split, size in excerpts.SIZES.items():
        found = excerpts.load(split)
        assert len(found) == size
        assert all(len(text) >= excerpts.LEAST for _, text in found)
        names.append({name for name, _ in found})
        every += [text for _, text in found]
    assert len(set().union(*names)) == sum(map(len, names))
    assert len(set(every)) == len(every)
    assert {excerpts.is_address(name) for name in names[2]} == {True, False}


def test_what_other_nets_were_trained_on_is_not_judged() -> None:
    assert not set(excerpts.SHARES["verify"]) & set(texts.CALIB_SHARE)
    assert not set(excerpts.SHARES["development"]) & set(texts.CALIB_SHARE)
    dealt = [k for shares in excerpts.SHARES.values() for k in shares]
    assert sorted(dealt) == list(range(texts.DEAL))


@given(st.lists(st.text("ab ", min_size=1, max_size=900).map(lambda s: s + "."), max_size=9))
def test_excerpts_are_whole_sentences_in_order(sentences: list[str]) -> None:
    text = re.sub(r"\s+", " ", " ".join(sentences)).strip()
    found = excerpts.cut(text)
    assert text.startswith(" ".join(found))
    assert len(text) - len(" ".join(found)) <= excerpts.LEAST
    assert all(len(e) >= excerpts.LEAST and e.endswith(".") for e in found)


def test_documents_are_dealt_whole() -> None:
    documents = {f"d{i}": f"Sentence {i} of it. " * 300 for i in range(40)}
    chosen = excerpts.choose(documents)
    for split, shares in excerpts.SHARES.items():
        assert {name for name, _ in chosen[split]} == {f"d{i}" for i in range(40) if i % 10 in shares}
        assert all(text in documents[name] for name, text in chosen[split])
