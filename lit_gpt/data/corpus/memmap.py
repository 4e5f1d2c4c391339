"""Columns: memory-mapped files of numbers, with a checksum per block that is verified before use.

A column `name` is two files: `name.bin` holds the numbers, `name.sums` the XXH3 checksum (64 bits) of each block of
16 KiB. A block is checked when something in it is asked for the first time, and again after the file was written in
place. One flipped bit in a file of token ids would train on without a word, and a checksum of the whole would cost a
reading of it all at each start. A file that was cut ends the process by a signal when its map is read past the end, so
its size is asked at each touch.
"""

import hashlib
import mmap
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from lit_gpt import atomic_io
from lit_gpt.errors import UserError

BLOCK = 16384  # bytes under one checksum
_SUM = np.dtype("<u8")
_TICK = 50_000_000  # nanoseconds; a file system's clock ticks each 1 to 10 milliseconds


class Column:
    """A column, opened for reading: slices of it are NumPy views of the map.

    Args:
        path: The `.bin` file; its checksums lie beside it.
        dtype: Of the numbers.

    Raises:
        UserError: the checksums do not belong to a file of this size; later, when a damaged block is asked for, or
            anything after the file was cut.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype = path, dtype
        self._bytes, self._view = _map(path, dtype)
        self._sums = np.fromfile(path.with_suffix(".sums"), _SUM)
        blocks = -(-path.stat().st_size // BLOCK)
        if len(self._sums) != blocks:
            raise UserError(
                f"{path.with_suffix('.sums')} holds {len(self._sums)} checksums instead of {blocks};"
                f" remove {path.parent} and prepare again"
            )
        self._checked = bytearray(blocks)
        # Read whole before the map is touched: through the map each of a block's pages would be a read of its own.
        self._file = os.open(path, os.O_RDONLY)
        self._size = self._view.nbytes
        self._state, self._just_written = (0, 0, 0), True

    def __del__(self, close: Any = os.close) -> None:  # bound: at the end of a script `os` may be gone already
        if hasattr(self, "_file"):
            close(self._file)

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, place: int | slice) -> Any:
        """A number, or a view of several. Shape (stop - start,)."""
        if not isinstance(place, slice):
            number = range(len(self._view))[place]
            self._check(number, number + 1)
            return self._view[number]
        start, stop, step = place.indices(len(self._view))
        if step != 1:
            return np.asarray(self)[place]
        if start < stop:
            self._check(start, stop)
        return self._view[start:stop]

    def stretches(self, starts: np.ndarray, stops: np.ndarray) -> list[np.ndarray]:
        """Views of many stretches at once, of one number or more each: a third of what slice by slice costs."""
        self._notice_changes()
        size = self.dtype.itemsize
        first, last = starts * size // BLOCK, (stops * size - 1) // BLOCK
        checked = np.frombuffer(self._checked, np.uint8)
        if not (checked[first].all() and checked[last].all() and (last - first).max(initial=0) < 2):
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                self._check(start, stop)
        view = self._view
        return [view[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype, copy=copy)

    def tolist(self) -> list[int]:
        """All numbers."""
        return self[:].tolist()

    def astype(self, dtype: Any) -> np.ndarray:
        """All numbers, as another type."""
        return self[:].astype(dtype)

    def _notice_changes(self) -> None:
        """Refuses a file that was cut or has grown; forgets what was checked of one that was written to."""
        now = os.fstat(self._file)
        state = now.st_size, now.st_mtime_ns, now.st_ctime_ns
        if state == self._state and not self._just_written:
            return
        if now.st_size != self._size:
            raise UserError(
                f"{self.path} was changed while it is in use: it has {now.st_size} bytes instead of {self._size};"
                f" remove {self.path.parent} and prepare again"
            )
        self._checked[:] = bytes(len(self._checked))
        self._state = state
        # Another write in the same tick of the file system's clock would leave the times as they are.
        self._just_written = 0 <= time.time_ns() - now.st_ctime_ns < _TICK

    def _check(self, start: int, stop: int) -> None:
        self._notice_changes()
        size = self.dtype.itemsize
        first, past = start * size // BLOCK, -(-stop * size // BLOCK)
        while (block := self._checked.find(0, first, past)) >= 0:
            content = os.pread(self._file, BLOCK, block * BLOCK)
            if xxh3_64_intdigest(content) != self._sums[block]:
                end = block * BLOCK + len(content)
                raise UserError(
                    f"{self.path} is damaged between byte {block * BLOCK} and {end} (its checksum differs);"
                    f" remove {self.path.parent} and prepare again"
                )
            self._checked[block] = 1


class ColumnWriter:
    """Writes a column from its beginning.

    Args:
        path: The `.bin` file, which is not there yet.
        dtype: Of the numbers.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype, self.count = path, dtype, 0
        self._file = path.open("wb")
        self._sha = hashlib.sha256()
        self._sums: list[int] = []
        self._rest = b""  # of a block that is not full yet

    def write(self, numbers: np.ndarray) -> None:
        """Appends numbers. Shape (N,)."""
        data = np.ascontiguousarray(numbers, self.dtype).tobytes()
        self.count += len(numbers)
        self._file.write(data)
        self._sha.update(data)
        data = self._rest + data
        whole = len(data) // BLOCK * BLOCK
        self._sums += [xxh3_64_intdigest(data[at : at + BLOCK]) for at in range(0, whole, BLOCK)]
        self._rest = data[whole:]

    def close(self) -> dict[str, dict[str, Any]]:
        """Waits until the disk has both files; returns size and sha256 of each by name."""
        if self._rest:
            self._sums.append(xxh3_64_intdigest(self._rest))
        sums = np.array(self._sums, _SUM).tobytes()
        with self.path.with_suffix(".sums").open("wb") as file:
            file.write(sums)
            atomic_io.fsync_file(file)
        atomic_io.fsync_file(self._file)
        self._file.close()
        return {
            self.path.name: {"bytes": self.count * self.dtype.itemsize, "sha256": self._sha.hexdigest()},
            f"{self.path.stem}.sums": {"bytes": len(sums), "sha256": hashlib.sha256(sums).hexdigest()},
        }

    def abandon(self) -> None:
        """Closes the file of a column that will not be finished."""
        self._file.close()


def _map(path: Path, dtype: np.dtype[Any]) -> tuple[Any, np.ndarray]:
    if path.stat().st_size == 0:
        return b"", np.empty(0, dtype)
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM"):
        # With the kernel's readahead a batch from a 20 GB map took 52-80 ms, without it 0.26 ms.
        content.madvise(mmap.MADV_RANDOM)
    return content, np.frombuffer(content, dtype)
