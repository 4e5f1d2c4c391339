"""Typed values: words stay strings where strings are wanted, numbers are numbers where numbers are wanted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from lit_gpt.__main__ import main
from lit_gpt.config.command_line import CommandLine
from lit_gpt.config.validation import ConfigChecker
from lit_gpt.config.yaml_files import load_yaml, parse
from lit_gpt.config.yaml_values import Loader, dump_yaml, flow, parse_words
from lit_gpt.data.corpus.prepared import open_prepared
from lit_gpt.errors import UserError


class Base:
    """What may stand inside."""

    given: dict[str, Any]


class Part(Base):
    """Something with options of many types."""

    def __init__(
        self,
        names: list[str] | None = None,
        word: str = "",
        tags: dict[str, str] | None = None,
        inner: Callable[[], Base] | None = None,
        share: float = 0.0,
        count: int = 0,
        switch: bool = True,
        free: Any = None,
        open: dict | None = None,  # type: ignore[type-arg]  # values of any type
    ) -> None:
        self.given = {**locals(), "inner": inner and inner().given}


class Owner:
    """Something with a component."""

    def __init__(self, part: Base = Part) -> None:  # type: ignore[assignment]  # a class by default
        self.part = part


def read(*words: str) -> dict[str, Any]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Owner, "of")
    parser.set_defaults({"of.part": {"class_path": f"{__name__}.Part"}})
    checked = ConfigChecker({"of": Owner}, {}).check(CommandLine(list(words)).options)
    owner: Owner = parser.instantiate(parse_words(parser, checked)).of
    return owner.part.given


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("[no, yes]", ["no", "yes"]),
        ("[on, off, y, N]", ["on", "off", "y", "N"]),
        ("[0123, 1e5, 1_000, 0x1F]", ["0123", "1e5", "1_000", "0x1F"]),
        ("[2020-01-01, 1:30, 12:00:05]", ["2020-01-01", "1:30", "12:00:05"]),
        ("[true, .nan, 0, 1.50]", ["true", ".nan", "0", "1.50"]),
        ("['null', \"~\"]", ["null", "~"]),
    ],
)
@pytest.mark.parametrize("way", ["option", "spec", "file"])
def test_words_stay_strings_where_strings_are_wanted(typed: str, expected: list[str], way: str, tmp_path: Path) -> None:
    spec = f"{{class_path: {__name__}.Part, init_args: {{names: {typed}, share: 1e-1, count: 3}}}}"
    (tmp_path / "a.yaml").write_text(f"of: {{part: {spec}}}\n")
    words = {
        "option": ["--of.part.names", typed, "--of.part.share=1e-1", "--of.part.count", "3"],
        "spec": [f"--of.part={spec}"],
        "file": ["--config", str(tmp_path / "a.yaml")],
    }[way]
    given = read(*words)
    assert (given["names"], given["share"], given["count"]) == (expected, 0.1, 3)


def test_words_are_strings_in_mappings_and_inner_classes() -> None:
    given = read("--of.part.tags", "{no: on, 010: 5}", "--of.part.word=0123")
    assert given["tags"] == {"no": "on", "010": "5"} and given["word"] == "0123"
    inner = f"{{class_path: {__name__}.Part, init_args: {{names: [1, no], word: 1e5, count: 0010}}}}"
    given = read("--of.part.inner", inner)["inner"]
    assert (given["names"], given["word"], given["count"]) == (["1", "no"], "1e5", 10)


def test_numbers_stay_numbers_where_no_string_is_wanted() -> None:
    given = read(
        "--of.part.free", "[1e-3, 7, true, no]", "--of.part.open", "{a: 5, b: [1.5]}", "--of.part.names", "[7]"
    )
    assert given["free"] == [0.001, 7, True, "no"]
    assert given["open"] == {"a": 5, "b": [1.5]} and given["names"] == ["7"]
    assert read("--of.part.switch", "no")["switch"] is False and read("--of.part.switch=off")["switch"] is False


@pytest.mark.parametrize("typed", ["[no, [1]]", "[no, null]", "5", "{a: 1}"])
def test_what_is_no_list_of_words_is_refused(typed: str) -> None:
    with pytest.raises(UserError):
        read("--of.part.names", typed)


@pytest.mark.parametrize("word", ["a:", "{text}", "[data] x.txt", "{a, b}", "a: b: c", "1:30", "@at", "no"])
def test_a_string_is_what_was_typed(word: str) -> None:
    assert read("--of.part.word", word)["word"] == word


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.text(max_size=5).filter(lambda key: key != "<<")


@given(
    st.recursive(PLAIN, lambda one: st.lists(one, max_size=3) | st.dictionaries(KEYS, one, max_size=3), max_leaves=8)
)
def test_what_is_dumped_reads_back_by_either_loader(values: Any) -> None:
    text = dump_yaml({"a": values})
    assert load_yaml(text) == yaml.safe_load(text) == {"a": values}
    node = yaml.compose(text, Loader)
    assert node is not None and load_yaml(flow(node)) == {"a": values}


@pytest.mark.parametrize("word", ["no", "1e5", "0123", "089", "1:30", "2020-01-01", "on", "true", "~", "1_0", "0o7"])
def test_a_word_is_written_so_that_it_stays_one(word: str) -> None:
    assert load_yaml(dump_yaml([word])) == yaml.safe_load(dump_yaml([word])) == [word]


def test_a_file_keeps_spellings_base_and_merged_keys() -> None:
    text = "base: other.yaml\nx: &x {a: 1e5, b: no}\ny: {<<: *x, b: 0x1F}\n"
    settings = parse(text, "a.yaml")
    settings.values.pop("base")
    assert flow(settings.node) == '{"base": "other.yaml", "x": {"a": 1e5, "b": "no"}, "y": {"a": 1e5, "b": 0x1F}}'
    settings.node.value.pop(0)
    assert load_yaml(flow(settings.node)) == settings.values
    assert flow(settings.only("x.b", "x.c").node) == '{"x": {"b": "no"}}'


@pytest.mark.parametrize("text", ["data: {seed: 1, seed: 2}", "{1: a, '1': b}"])
def test_a_key_is_given_once(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="is given twice"):
        load_yaml(text)


@pytest.mark.parametrize("text", ["a: !!int b\n", "? [a]\n: 1\n", "a: !!python/name:os.system x\n"])
def test_values_that_yaml_cannot_make_are_told(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert main(["prepare", "--config", str(tmp_path / "a.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "not valid YAML" in error


@pytest.mark.parametrize("name", ["[data] x.txt", "{x}.txt"])
def test_a_path_that_looks_like_yaml_is_a_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("some text to be read " * 20)
    words = ["prepare", "--data.source.paths", name, "--data.tokenizer", "Byte", "--data.context", "8"]
    assert main(words) == 0, capsys.readouterr().err


def test_names_codes_and_sources_called_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text("".join(f'{{"text": "text number {n}", "label": {n % 2}}}\n' for n in range(40)))
    records = "{class_path: JsonLines, init_args: {paths: a.jsonl, field: null}}"
    words = ["prepare", "--data.tokenizer=Byte", "--data.context=8", "--data.format=Labeled", "--data.folder=c"]
    mixed = ["--data.source=Mixture", f"--data.source.sources={{no: {records}}}", "--data.format.names", "[no, yes]"]
    assert main([*words, *mixed]) == 0, capsys.readouterr().err
    assert "no: 40 documents" in capsys.readouterr().out
    text = bytes(id for id in open_prepared("c").corpora["train"].ids.tolist() if id < 256).decode()
    assert " no" in text and " yes" in text and "alse" not in text
