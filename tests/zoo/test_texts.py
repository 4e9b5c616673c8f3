from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import texts

SENTENCES = st.lists(st.text("ab ", min_size=1, max_size=200).map(lambda s: s + "."), max_size=12)
WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=4).map(" ".join)


def test_embedded_passages_are_disjoint_and_of_usable_length() -> None:
    calib, development, verify = texts.load()
    assert (len(calib), len(development), len(verify)) == (texts.CALIB, texts.DEVELOPMENT, texts.VERIFY)
    passages = calib + [passage for pair in development + verify for passage in pair]
    assert len(set(passages)) == len(passages)
    assert all(texts.SHORTEST <= len(passage) <= texts.LONGEST for passage in passages)


@given(SENTENCES)
def test_passages_join_to_the_text(sentences: list[str]) -> None:
    text = " ".join(sentences)
    passages = texts.split_passages(text)
    assert " ".join(passages).strip() == re.sub(r"\s+", " ", text).strip()
    assert all(len(p) <= texts.LONGEST or not re.search(r"[.!?;]\s", p) for p in passages)


def test_pairs_are_neighbours_used_once() -> None:
    short, passages = "x", [letter * texts.SHORTEST for letter in "abcdefa"]
    seen: set[str] = set()
    assert texts.consecutive_pairs([*passages[:2], short, passages[2], *passages[3:5]], seen) == [
        (passages[0], passages[1]),
        (passages[3], passages[4]),
    ]
    assert seen == {passages[0], passages[1], passages[3], passages[4]}
    assert texts.consecutive_pairs([passages[6], passages[5]], seen) == []  # its first is the first pair's first


def test_round_robin_deals_one_of_each_document_in_turn() -> None:
    groups = [[("a", "1"), ("a", "2"), ("a", "3")], [("b", "1")], [("c", "1"), ("c", "2")]]
    assert [a + b for a, b in texts.round_robin(groups, 5)] == ["a1", "b1", "c1", "a2", "c2"]


@settings(max_examples=200)
@given(st.lists(WORDS, min_size=6, max_size=12, unique=True), st.integers(2, 6))
def test_covering_is_the_plain_greedy_choice(passages: list[str], count: int) -> None:
    chosen = passages[: count // 2]
    rest = passages[count // 2 :]
    while len(chosen) < count:
        covered = set(" ".join(chosen).split())
        chosen.append(rest.pop(max(range(len(rest)), key=lambda i: (len(set(rest[i].split()) - covered), -i))))
    assert texts.covering(passages, count) == chosen
