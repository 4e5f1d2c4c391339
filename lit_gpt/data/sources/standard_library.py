"""StandardLibrary: the source text of the running Python."""

import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from lit_gpt.data.chunks import Chunk
from lit_gpt.data.sources.files import stat_signature
from lit_gpt.data.sources.source import Source
from lit_gpt.errors import UserError


class StandardLibrary(Source):
    """The source text of the running Python's standard library: one document per .py file, in the order of their names.

    Tests, installed packages and files that are not UTF-8 are skipped, and so are `encodings` and `pydoc_data`, which
    hold tables of characters and pages of prose rather than code.

    Args:
        limit: Most bytes to take, in whole files (those that do not fit any more are passed over); null takes all,
            some 10 MB.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        if limit is not None and limit < 1:
            raise UserError(f"limit {limit} of StandardLibrary leaves no text; give a number of bytes, or null for all")

    def chunks(self) -> Iterator[Chunk]:
        taken = 0
        for path in self.files():
            try:
                text = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue
            if not text:
                continue
            size = len(text.encode("utf-8"))
            if self.limit is not None and taken + size > self.limit:
                continue
            taken += size
            yield Chunk(text, where=str(path))

    def signature(self) -> str | None:
        return stat_signature(self.files(), f"{platform.python_version()} {self.limit}")

    def read_files(self) -> list[Path]:
        return self.files()

    def files(self) -> list[Path]:
        """The .py files, in order."""
        root = Path(sysconfig.get_path("stdlib"))
        left_out = {
            "test",
            "tests",
            "idle_test",
            "site-packages",
            "dist-packages",
            "__pycache__",
            "encodings",
            "pydoc_data",
        }
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name not in left_out and not name.startswith("config-"))
            found += [
                Path(folder, name) for name in names if name.endswith(".py") and not name.startswith("_sysconfigdata")
            ]
        if not found:
            raise UserError(f"this Python keeps no source text of its standard library in {root}; use TextFiles")
        return sorted(found, key=lambda path: path.relative_to(root).as_posix())
