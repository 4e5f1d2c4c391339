"""Parquet: documents from Parquet files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gpt.data.sources.record_files import RecordFiles, no_field, without_nulls
from lit_gpt.errors import UserError

_ROWS = 64  # held at once; more read no faster


class Parquet(RecordFiles):
    """Parquet files (.parquet); each row is a record, and only the columns that are needed are read.

    Of a folder, files with this ending are read, through all its subfolders in the order of names.

    Args:
        paths: A file, a folder or a glob (`data/**/*.parquet`), or a list of them, read in the order given.
        field: The column that holds the text, meta.body for one inside another; null gives a data.format whole records,
            in which a null inside a column is a key that is not there.
    """

    endings = (".parquet",)

    def records(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        import pyarrow
        from pyarrow import parquet

        number = 0
        try:
            # Buffered ahead, a group of rows would be held whole, which may be the file; so it is some rows and a page.
            options = {"pre_buffer": False, "buffer_size": 1 << 20, "page_checksum_verification": True}
            with parquet.ParquetFile(path, **options) as file:
                columns = None if self.field is None else [self.field]
                within = [column.path for column in map(file.schema.column, range(len(file.schema)))]
                if columns and not any(f"{column}.".startswith(f"{self.field}.") for column in within):
                    assert self.field is not None
                    raise no_field(self.field, file.schema_arrow.names, str(path))
                for field in file.schema_arrow:
                    if self.field is None or field.name == self.field.split(".")[0] or field.name == self.field:
                        _refuse_twice(field.name, file.schema_arrow.names, path)
                        _refuse_inside(field, path)
                for batch in file.iter_batches(_ROWS, columns=columns, use_threads=False):
                    for record in _rows(batch, path, number):
                        number += 1
                        yield f"{path}, record {number}", record if self.field else without_nulls(record)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(
                f"{path} cannot be read as Parquet after record {number} ({str(error).splitlines()[0]}); get the file"
                " again, or read it with the source for its kind"
            ) from None


def _refuse_twice(name: str, names: list[str], path: Path) -> None:
    if names.count(name) > 1:
        raise UserError(
            f"{path} has the column {name!r} twice, of which one would be lost; give each a name of its own"
        )


def _refuse_inside(field: Any, path: Path) -> None:
    """The same for the fields of a column, however deep."""
    kind = field.type
    inner = [kind.field(number) for number in range(kind.num_fields)]
    for one in inner:
        _refuse_twice(one.name, [other.name for other in inner], path)
        _refuse_inside(one, path)


def _rows(batch: Any, path: Path, before: int) -> list[dict[str, Any]]:
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, record {before + number + 1} is not UTF-8 text: byte 0x{error.object[error.start]:02x} at"
                    f" offset {error.start} of a value; fix or remove the record"
                ) from None
        raise
