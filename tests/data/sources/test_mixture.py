"""Shares of a mixture, its end, its tags; no document is cut, lost or read twice unsaid."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import Mixture, Source
from lit_gpt.data.chunks import Chunk, whole
from lit_gpt.errors import UserError


class Given(Source):
    """Documents from memory; those with a / in them come in stretches."""

    def __init__(self, *documents: Any) -> None:
        self.documents = documents

    def chunks(self) -> Iterator[Chunk]:
        for number, document in enumerate(self.documents, 1):
            parts = document.split("/") if isinstance(document, str) else [document]
            for place, part in enumerate(parts):
                yield Chunk(part, place == 0, place == len(parts) - 1, where=f"given, record {number}")

    def signature(self) -> str | None:
        return str(self.documents)


def test_without_weights_each_is_read_once_one_after_the_other() -> None:
    mixture = Mixture({"b": Given("one", "t/w/o"), "a": Given({"text": "three"}, "")})
    assert list(mixture) == ["one", "two", {"text": "three"}, ""]
    assert mixture.notes() == [
        "b: 2 documents, 6 characters, 54.55 % of the text, read once",
        "a: 2 documents, 5 characters, 45.45 % of the text, read once",
    ]
    assert not mixture.repeats


SOURCES = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.text("xy/", min_size=1, max_size=9), min_size=1, max_size=12), min_size=2
)


@given(documents=SOURCES, parts=st.lists(st.integers(1, 9), min_size=4, max_size=4), data=st.data())
@settings(max_examples=200, deadline=None)
def test_shares_hold_everywhere_and_nothing_is_lost(
    documents: dict[str, list[str]], parts: list[int], data: st.DataObject
) -> None:
    until = data.draw(st.sampled_from(["longest", "shortest"]))
    used = dict(zip(documents, parts, strict=False))
    weights = {name: part / sum(used.values()) for name, part in used.items()}
    # Each document says whose it is, and its place, so that equal ones are told apart.
    named = {name: [f"{name}{n}:{one}" for n, one in enumerate(texts)] for name, texts in documents.items()}
    mixture = Mixture({name: Given(*texts) for name, texts in named.items()}, weights, until=until)  # type: ignore[arg-type]
    chunks = list(mixture.chunks())
    texts = [str(chunk.content) for chunk in whole(chunks)]
    assert texts == [str(one) for one in Mixture(mixture.sources, weights, until=until)]  # type: ignore[arg-type]
    # Stretches of a document are never apart.
    assert all(a.ends == b.begins for a, b in zip(chunks, chunks[1:], strict=False))
    joined = {name: [one.replace("/", "") for one in texts] for name, texts in named.items()}
    longest = max(len(one) for texts in joined.values() for one in texts)
    read = dict.fromkeys(named, 0)
    for total, text in zip(accumulate(map(len, texts)), texts, strict=True):
        read[text[0]] += len(text)
        # A source is taken only when it is furthest behind: so it is never further ahead than a document.
        assert all(read[name] - weights[name] * total <= longest + 1e-9 for name in read)
    for name, own in joined.items():
        mine = [text for text in texts if text[0] == name]
        assert mine == (own * (len(mine) // len(own) + 1))[: len(mine)]  # in order, from the start again
    times = {name: sum(text[0] == name for text in texts) / len(own) for name, own in joined.items()}
    if until == "longest":
        assert min(times.values()) == 1 and mixture.repeats
    else:
        assert max(times.values()) == 1 and not mixture.repeats


def test_the_notes_say_how_often_and_what_was_left() -> None:
    sources = {"big": Given(*["x" * 10] * 40), "small": Given(*["y" * 10] * 8)}
    weights = {"big": 0.5, "small": 0.5}
    mixture = Mixture(dict(sources), weights)
    assert sum(map(len, mixture)) in (790, 800)
    assert mixture.notes()[0].endswith("(asked: 50 %), read once")
    assert mixture.notes()[1].endswith((", read 4.88 times", ", read 5.00 times"))
    mixture = Mixture(dict(sources), weights, until="shortest")
    assert sum(map(len, mixture)) == 160
    assert mixture.notes() == [
        "big: 8 documents, 80 characters, 50.00 % of the text (asked: 50 %); not read to its end, left out from"
        " document 9 (given, record 9) on",
        "small: 8 documents, 80 characters, 50.00 % of the text (asked: 50 %), read once",
    ]


def test_tags_go_ahead_of_documents_and_through_mixtures() -> None:
    code = Mixture({"py": Given("p/1"), "c": Given("c1")}, tags={"py": "<|py|>"})
    mixture = Mixture({"code": code, "en": Given("e1")}, {"code": 0.75, "en": 0.25}, tags={"en": "<|en|>"})
    assert mixture.special_tokens == ("<|en|>", "<|py|>")
    assert [(one.content, one.tag) for one in mixture.chunks()] == [
        ("p", "<|py|>"),
        ("1", "<|py|>"),
        ("e1", "<|en|>"),
        ("c1", None),
    ]
    assert mixture.notes()[1:3] == [
        "code: py: 1 document, 2 characters, 50.00 % of the text, read once",
        "code: c: 1 document, 2 characters, 50.00 % of the text, read once",
    ]
    assert "\n" not in mixture.describe() and "code: 0.75 Mixture(py: <|py|> Given" in mixture.describe()
    with pytest.raises(UserError, match=r"'code' of Mixture has tags of its own \(<\|py\|>\)"):
        Mixture({"code": code}, tags={"code": "<|code|>"})


def test_its_signature_is_that_of_all_that_decides_the_text() -> None:
    a, b = Given("one"), Given("two")
    weights = {"a": 0.5, "b": 0.5}
    made = [
        Mixture({"a": a, "b": b}),
        Mixture({"b": b, "a": a}),
        Mixture({"a": a, "b": b}, tags={"a": "<a>"}),
        Mixture({"a": a, "b": b}, weights),
        Mixture({"a": a, "b": b}, weights, until="shortest"),
        Mixture({"a": a, "b": b}, {"a": 0.4, "b": 0.6}),
    ]
    assert len({one.signature() for one in made}) == len(made)
    assert made[3].signature() == Mixture({"a": a, "b": b}, weights).signature()

    class Unknown(Given):
        def signature(self) -> str | None:
            return None

    assert Mixture({"a": a, "b": Unknown("two")}).signature() is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"weights": {"a": 0.5, "b": 0.4}}, r"add up to 0.9 and not to 1; .*\(a: 0.555556, b: 0.444444\)"),
        ({"weights": {"a": 1.0}}, "weights of Mixture lacks b; give one to each of a, b"),
        ({"weights": {"a": 0.5, "b": 0.4, "c": 0.1}}, "weights of Mixture has c, which is no source"),
        ({"weights": {"a": 1.0, "b": 0.0}}, "weight 0.0 of 'b' in Mixture is not above 0"),
        ({"weights": {"a": 2.0, "b": -1.0}}, "weight -1.0 of 'b'"),
        ({"weights": {"a": float("nan"), "b": 1.0}}, "weight nan of 'a'"),
        ({"tags": {"c": "<c>"}}, "tags of Mixture names 'c'; its sources are a, b"),
        ({"tags": {"a": ""}}, "the tag of 'a' in Mixture is empty"),
        ({"until": "shortest"}, "until shortest of Mixture needs weights"),
        ({"sources": {}}, "sources of Mixture is empty"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        Mixture(**{"sources": {"a": Given("one"), "b": Given("two")}, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("void", "words"), [(Given(), "gives no document"), (Given("", ""), "has no character")])
def test_a_source_without_text_cannot_have_a_share(void: Source, words: str) -> None:
    with pytest.raises(UserError, match=f"source 'b' of Mixture, Given.*{words}"):
        list(Mixture({"a": Given(*"xyz" * 100), "b": void}, {"a": 0.5, "b": 0.5}))


def test_a_config_names_sources_within_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lit_gpt.commands.prepare import main

    for name in ("en", "zh"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} poem {n}\n\n" for n in range(60)))
    reader = "{{class_path: TextFiles, init_args: {{paths: {}, separator: \\n\\n}}}}"
    (tmp_path / "a.yaml").write_text(
        "data:\n  tokenizer: Byte\n  split_by: hash\n  source:\n    class_path: Mixture\n    init_args:\n"
        f"      sources:\n        en: {reader.format(tmp_path / 'en.txt')}\n        zh:\n"
        "          class_path: Mixture\n          init_args:\n"
        f"            sources: {{poems: {reader.format(tmp_path / 'zh.txt')}}}\n            tags: {{poems: <|zh|>}}\n"
        "      weights: {en: 0.25, zh: 0.75}\n"
    )
    words = ["--config", str(tmp_path / "a.yaml"), "--data.context", "8"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "en: 0.25 TextFiles(" in said and "zh: 0.75 Mixture(poems: <|zh|> TextFiles(" in said
    assert "zh: 177 documents, 1,740 characters, 74.68 % of the text (asked: 75 %), read 2.95 times" in said
    assert "zh, each time: poems: 60 documents, 590 characters, 100.00 % of the text, read once" in said
    typed = ["--data.source.weights", "{en: 0.5, zh: 0.6}"]
    with pytest.raises(UserError, match="add up to 1.1 and not to 1"):
        main([*words, *typed])


def test_own_splits_are_those_of_all_its_sources_each_once() -> None:
    class Split(Given):
        def own_split(self, split: str) -> Source | None:
            return Given(*(f"{split} {text}" for text in self.documents)) if split == "val" else None

    mixture = Mixture({"a": Split("one"), "b": Split("two")}, {"a": 0.5, "b": 0.5}, tags={"b": "<b>"})
    own = mixture.own_split("val")
    assert own is not None and list(own) == ["val one", "val two"] and own.special_tokens == ("<b>",)
    assert mixture.own_split("test") is None
    assert Mixture({"a": Split("one"), "b": Given("two")}).own_split("val") is None
