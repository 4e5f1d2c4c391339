"""YAML, JSON and plain data within bounds."""

import json

import pytest
import yaml
from hostile_files import YAML

from lit_gpt.config import safe_parsing
from lit_gpt.config.yaml_files import parse
from lit_gpt.errors import UserError

SAYS = {
    "aliases": "stands for more than 100,000 values",
    "merges": "stands for more than 100,000 values",
    "circle": "a refers to itself",
    "deep flow": "nested more than 100 deep",
    "deep block": "nested more than 100 deep",
    "deep unclosed": "nested more than 100 deep",
    "object": "could not determine a constructor",
    "name": "could not determine a constructor",
    "number": "a number of more than 400 digits",
    "sexagesimal": "a number of more than 400 digits",
    "date": "month must be in 1..12",
}


@pytest.mark.parametrize("name", YAML)
def test_hostile_yaml_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match=SAYS[name]) as told:
        parse(YAML[name], "x.yaml")
    assert str(told.value).startswith("x.yaml") and "\n" not in str(told.value)


def test_yaml_within_the_bounds_is_read_as_before() -> None:
    text = "a: &a {k: [1, 1e-3, .5, yes]}\nb: {<<: *a, c: [*a, *a]}\n"
    assert yaml.load(text, safe_parsing.BoundedLoader) == yaml.safe_load(text)
    deep = "[" * 99 + "]" * 99
    assert yaml.load(deep, safe_parsing.BoundedLoader) == json.loads(deep)


def test_json_that_is_nested_too_deep_is_a_value_error() -> None:
    assert safe_parsing.parse_json('{"a": ' + "[" * 90 + "]" * 90 + "}") == json.loads(
        '{"a": ' + "[" * 90 + "]" * 90 + "}"
    )
    assert safe_parsing.parse_json(json.dumps([[]] * 1000)) == [[]] * 1000
    for levels in (101, 900, 100_000):
        for text in ("[" * levels + "]" * levels, ('{"a":' * levels + "1" + "}" * levels).encode()):
            with pytest.raises(ValueError, match="nested more than 100 deep"):
                safe_parsing.parse_json(text)


def test_shared_and_circular_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_parsing, "ITEMS", 10_000)
    shared: list = [1]
    for _ in range(60):
        shared = [shared, shared]
    with pytest.raises(ValueError, match="stands for more than 10,000 values"):
        safe_parsing.check_plain(shared)
    circle: dict = {}
    circle["a"] = circle
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        safe_parsing.check_plain(circle)
    safe_parsing.check_plain({"a": [{"b": (1, 2)}] * 1000})
