"""RecordFiles: the base of sources that read files of records; the field of a record that holds the text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gpt.data.chunks import Chunk, text_of
from lit_gpt.data.sources.source import FileSource
from lit_gpt.errors import UserError, not_implemented


class RecordFiles(FileSource):
    """The base of sources that read files of records. A subclass writes `records`.

    Args:
        paths: A file, a folder or a glob, or a list of them, read in the order given.
        field: The field that holds the text, meta.body for one inside another; null gives a data.format whole records.
    """

    def __init__(self, paths: str | list[str], field: str | None = "text") -> None:
        super().__init__(paths)
        self.field = field
        check_field(field)

    def records(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """The records of a file, each with its place."""
        raise not_implemented(self, "records")

    def read(self, path: Path) -> Iterator[Chunk]:
        for where, record in self.records(path):
            yield Chunk(record if self.field is None else text_in(record, self.field, where), where=where)


def check_field(field: str | None) -> None:
    """Refuses the empty name of a field."""
    if field is not None and not field.strip():
        raise UserError("field is empty; name the field that holds the text, or give null for whole records")


def text_in(record: dict[str, Any], field: str, where: str) -> str:
    """The text that a field of a record holds.

    Args:
        record: The record.
        field: Its name; a.b is the field b of the record a, unless a field is so called.
        where: Place of the record, for errors.

    Raises:
        UserError: the field is missing, or holds something else than text.
    """
    value: Any = record
    for name in [field] if field in record else field.split("."):
        if not isinstance(value, dict) or name not in value:
            raise no_field(field, record, where)
        value = value[name]
    if not isinstance(value, str):
        raise UserError(
            f"{where}: field {field!r} holds {_kind(value)} and no text; name a field of text, or leave out such"
            " records; field null gives whole records to a data.format"
        )
    return value


def no_field(field: str, record: Any, where: str) -> UserError:
    """The error that says which fields there are instead."""
    has = ", ".join(map(str, list(record)[:20])) or "none"
    return UserError(
        f"{where}: there is no field {field!r}; the fields are: {has}; name the one with the text (field), or give"
        " field null and a data.format that takes whole records"
    )


def without_nulls(record: dict[str, Any]) -> dict[str, Any]:
    """A row of a table without the nulls inside its fields, where a null is how a table says that a key is absent.

    All rows of a column share their keys: a message without tool_calls has null for them, a call has null for each
    argument of other calls. The columns themselves stay as they are.
    """
    return {key: _without_nulls(value) for key, value in record.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value


def check_unicode(record: dict[str, Any], where: str) -> None:
    """Refuses half a surrogate pair, which no encoding of Unicode can hold."""
    try:
        text_of(record).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: the record holds \\u{ord(error.object[error.start]):04x}, half of a surrogate pair and no"
            " character; fix or remove the record"
        ) from None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", dict: "a record"}
    return names.get(type(value), f"a {type(value).__name__}")
