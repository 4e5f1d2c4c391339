"""Text in, text out: whole characters, exact stops, special tokens, prompts of every kind."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data.tokenizers.bpe import BPE
from lit_gpt.data.tokenizers.byte_and_char import Byte, Char
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError
from lit_gpt.generate import text_generator as module
from lit_gpt.generate.text_generator import StopStrings, TextGenerator
from lit_gpt.model import GPT

TEXT = "the cat sat on the mat; the rat sat on the cat. naïve café — 日本語 🙂🙂\n"


def bpe(**options) -> BPE:
    tokenizer = BPE(300, **options)
    tokenizer.train([TEXT] * 3)
    return tokenizer


def char(**options) -> Char:
    tokenizer = Char(**options)
    tokenizer.train([TEXT])
    return tokenizer


def generator(tokenizer: Tokenizer, context: int = 32, vocab_size: int | None = None) -> TextGenerator:
    net = GPT(vocab_size or -(-tokenizer.vocab_size // 64) * 64, width=16, depth=1, heads=2, context=context, seed=0)
    return TextGenerator(net, tokenizer)


class Script:
    """Stands in for the engine: says given ids whatever it is asked, and notes what it was asked."""

    def __init__(self, *rows: Sequence[int]) -> None:
        self.rows = rows
        self.asked: dict = {}

    def __call__(self, net: GPT, prompts: list[list[int]], **options) -> Iterator[list[int | None]]:
        self.asked = options | {"prompts": prompts}
        return self.steps(**options)

    def steps(self, max_new_tokens: int, stop_ids: frozenset, finished: set, **_) -> Iterator[list[int | None]]:
        for number in range(max_new_tokens):
            if len(finished) == len(self.rows):
                return
            step = [None if place in finished else row[number] for place, row in enumerate(self.rows)]
            finished.update(place for place, id in enumerate(step) if id in stop_ids)
            yield step


def scripted(monkeypatch: pytest.MonkeyPatch, *rows: Sequence[int]) -> Script:
    script = Script(*rows)
    monkeypatch.setattr(module, "generate", script)
    return script


def test_characters_of_several_tokens_come_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Byte()
    text = "aé日🙂!"
    ids = tokenizer.encode(text)
    scripted(monkeypatch, ids)
    assert [*generator(tokenizer).stream("x", max_new_tokens=len(ids))] == [*text]


def test_a_character_cut_off_by_the_limit_shows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Byte()
    scripted(monkeypatch, tokenizer.encode("a🙂"))
    assert [*generator(tokenizer).stream("x", max_new_tokens=3)] == ["a", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize("tokenizer", [bpe(), char(), Byte()], ids=["BPE", "Char", "Byte"])
def test_the_pieces_make_what_decoding_at_once_makes(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tokenizer.encode(TEXT)
    scripted(monkeypatch, ids)
    assert generator(tokenizer).generate("", max_new_tokens=len(ids)) == TEXT


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (["sat on"], "the cat "),
        (["mat", "cat"], "the "),
        (["sat on the rat"], TEXT),
        (["café — 日本"], "the cat sat on the mat; the rat sat on the cat. naïve "),
        (["🙂"], TEXT[: TEXT.index("🙂")]),
        (["t"], ""),
        (["\n"], TEXT[:-1]),
        (["\n\n"], TEXT),
        (["cat sat on", "at s"], "the c"),
    ],
)
@pytest.mark.parametrize("tokenizer", [bpe(), char(), Byte()], ids=["BPE", "Char", "Byte"])
def test_stop_strings_cut_exactly(
    tokenizer: Tokenizer, stop: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokenizer.encode(TEXT)
    scripted(monkeypatch, ids)
    pieces = [*generator(tokenizer).stream("", max_new_tokens=len(ids), stop=stop)]
    assert "".join(pieces) == expected


def test_each_row_of_a_batch_stops_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Byte(eos="<end>")
    rows = [
        tokenizer.encode("one stop two"),
        [*tokenizer.encode("all"), tokenizer.eos],
        tokenizer.encode("onward march"),
    ]
    scripted(monkeypatch, *rows)
    assert generator(tokenizer).generate_batch(["", "", ""], max_new_tokens=12, stop=["stop"]) == [
        "one ",
        "all",
        "onward march",
    ]


@settings(deadline=None)
@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_the_cut_does_not_depend_on_how_the_text_is_sliced(text: str, stop: list[str], data: st.DataObject) -> None:
    def cut(pieces: Sequence[str]) -> str:
        stops = StopStrings(stop)
        return "".join(map(stops.push, pieces)) + stops.held

    places = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    slices = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    assert cut(slices) == cut([text]) == cut([*text])
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(one) for one in stop)]
    if not ends:
        assert cut(slices) == text
    else:
        longest = max(len(one) for one in stop if text[: ends[0]].endswith(one))
        assert cut(slices) == text[: ends[0] - longest]


def test_the_stop_string_that_is_complete_first_cuts() -> None:
    """Though another, complete in the same piece, begins before it: the cut is the same however the text is sliced."""
    stops = StopStrings(["xyz", "y"])
    assert stops.push("axyz") == "ax" and stops.found


def test_nothing_is_written_after_a_stop_string(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Byte()
    scripted(monkeypatch, b"ab.cd", b"abcd.")
    steps = [*generator(tokenizer).stream_batch(["", ""], max_new_tokens=5, stop=["."])]
    assert steps == [["a", "a"], ["b", "b"], ["", "c"], [None, "d"], [None, ""]]
    scripted(monkeypatch, b"ab.cd")
    assert len([*generator(tokenizer).stream_batch([""], max_new_tokens=5, stop=["."])]) == 3


@given(st.text("ab", max_size=20), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_no_more_is_held_back_than_could_become_a_stop_string(text: str, stop: list[str]) -> None:
    stops = StopStrings(stop)
    for character in text:
        stops.push(character)
        assert not stops.held or any(one.startswith(stops.held) and one != stops.held for one in stop)


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "expected"),
    [
        (Byte(), "ab", [97, 98]),
        (Byte(bos="<s>"), "ab", [256, 97, 98]),
        (Byte(bos="<s>"), "", [256]),
        (Byte(eos="</s>"), "ab", [97, 98]),
        (Byte(eos="</s>"), "", [256]),
        (Byte(), "", [10]),
        (char(), "", [0]),
        (Byte(bos="<s>"), "<s>", [256, *b"<s>"]),
    ],
)
def test_what_the_net_is_given(tokenizer: Tokenizer, prompt: str, expected: list[int]) -> None:
    assert generator(tokenizer).encode(prompt) == expected


def test_an_empty_prompt_starts_from_the_first_character() -> None:
    tokenizer = Char()
    tokenizer.train(["abc"])
    assert generator(tokenizer).encode("") == [0]
    assert len(generator(tokenizer).generate("", max_new_tokens=5)) == 5


def test_bpe_gets_its_separator_ahead() -> None:
    tokenizer = bpe()
    assert generator(tokenizer).encode("the") == [tokenizer.bos, *tokenizer.encode("the")]


@pytest.mark.parametrize("role", ["bos", "eos"])
def test_bos_and_eos_end_a_text(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Byte(**{role: "<|>"})
    script = scripted(monkeypatch, [97, 98, 256, 99])
    assert generator(tokenizer).generate("x", max_new_tokens=4) == "ab"
    assert script.asked["stop_ids"] == {256}


def test_ids_that_stand_for_nothing_are_never_drawn() -> None:
    tokenizer = char(pad="<pad>", unk="<unk>")
    text_generator = generator(tokenizer, vocab_size=128)
    with torch.no_grad():  # what fills the embedding up is made by far the likeliest
        text_generator.net.head.weight[len(set(TEXT)) :] *= 1000
    texts = text_generator.generate_batch(["t"] * 20, max_new_tokens=20, temperature=1.5, seed=0)
    assert all(len(text) == 20 and set(text) <= set(TEXT) for text in texts)


def test_an_unknown_character_is_named_or_becomes_unknown() -> None:
    with pytest.raises(UserError, match=r"character 'Ω' \(U\+03A9\) at position 4") as caught:
        generator(char()).generate("the Ω")
    assert "\n" not in str(caught.value)
    tokenizer = char(unk="<unk>")
    assert generator(tokenizer).encode("Ω") == [tokenizer.unk]


def test_half_a_character_is_refused() -> None:
    for tokenizer in (Byte(), bpe(), char()):
        with pytest.raises(UserError, match=r"U\+DC80 at position 2"):
            generator(tokenizer).generate("ab\udc80")


def test_a_prompt_longer_than_the_context_is_refused_at_the_call() -> None:
    with pytest.raises(UserError, match="prompt has 33 tokens.*end at 32"):
        generator(Byte()).stream("x" * 33)


def test_a_tokenizer_of_another_net_is_refused() -> None:
    with pytest.raises(UserError, match="256 ids, the net 64: they do not belong together"):
        generator(Byte(), vocab_size=64)


def test_seeds_and_batches() -> None:
    text_generator = generator(bpe())
    first = text_generator.generate("the", max_new_tokens=30, seed=1)
    assert (
        first
        == text_generator.generate("the", max_new_tokens=30, seed=1)
        != text_generator.generate("the", max_new_tokens=30, seed=2)
    )
    batch = text_generator.generate_batch(["the", "the", "a cat"], max_new_tokens=30, seed=1)
    assert batch[0] == first != batch[1]
    assert text_generator.generate_batch([]) == []
    greedy = text_generator.generate_batch(["the", "sat on the mat"], max_new_tokens=50, temperature=0)
    assert greedy == [text_generator.generate(p, max_new_tokens=50, temperature=0) for p in ("the", "sat on the mat")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": "end"}, r"stop is the string 'end'; give a list"),
        ({"stop": ["a", ""]}, "stop holds an empty string"),
        ({"top_p": 2.0}, "top_p is 2.0; give"),
        ({"max_new_tokens": -3}, "max_new_tokens is -3; give"),
    ],
)
def test_bad_options_are_refused_at_the_call(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator(Byte()).stream("a", **options)
