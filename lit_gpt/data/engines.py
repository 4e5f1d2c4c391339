"""Who encodes: this process, several on this machine, or a cluster. All write the same shards, byte for byte.

Knows: processes. Does not know: text, ids, files of corpora.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lit_gpt.data.encoding import Encoder, Piece, write_shard
from lit_gpt.data.tokenizer import Tokenizer
from lit_gpt.errors import UserError

_AHEAD = 2  # packets that wait for each process


class Stopped(UserError):
    """The work was ended from outside: what is done already is kept."""


class Packet(NamedTuple):
    """A stretch of the text that becomes one shard."""

    pieces: list[Piece]
    characters: int
    shard: Path


class Engine:
    """The base of all engines. A subclass writes `run`."""

    def run(self, encoder: Encoder, packets: Iterator[Packet], done: Callable[[int], None]) -> None:
        """Writes the shard of each packet.

        Args:
            encoder: Makes ids of pieces.
            packets: What is to be encoded; taken as it is needed.
            done: Told the number of characters of each packet when its shard is there.
        """
        raise NotImplementedError


class InProcess(Engine):
    """Encodes in this process; the tokenizers library spreads what it can over the cores."""

    def run(self, encoder: Encoder, packets: Iterator[Packet], done: Callable[[int], None]) -> None:
        for packet in packets:
            write_shard(packet.shard, encoder.encode(packet.pieces))
            done(packet.characters)


class Processes(Engine):
    """Encodes in processes of this machine, by loky.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UserError(f"{count} workers cannot encode anything; give at least 1")
        self.count = count

    def run(self, encoder: Encoder, packets: Iterator[Packet], done: Callable[[int], None]) -> None:
        from loky import ProcessPoolExecutor
        from loky.process_executor import TerminatedWorkerError

        # One thread each: the processes are what fills the cores.
        alone = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        packed = packed_encoder(encoder)
        executor = ProcessPoolExecutor(self.count, initializer=_begin, initargs=(packed, os.getpid()), env=alone)
        waiting: deque[tuple[Any, int]] = deque()
        try:
            for packet in packets:
                waiting.append((executor.submit(_shard, packet), packet.characters))
                while len(waiting) >= self.count * (1 + _AHEAD) or (waiting and waiting[0][0].done()):
                    future, characters = waiting.popleft()
                    future.result()
                    done(characters)
            for future, characters in waiting:
                future.result()
                done(characters)
        except TerminatedWorkerError:
            raise Stopped(
                "a process that tokenized was ended from outside (out of memory?); run the same again, it goes on where"
                " it stopped, with fewer --workers if memory is short"
            ) from None
        finally:
            executor.shutdown(wait=True, kill_workers=True)


class PackedEncoder(NamedTuple):
    """An encoder as plain data and names of classes, for another process."""

    tokenizer: dict[str, Any]
    package: str
    form: Any

    def opened(self) -> Encoder:
        """The encoder again."""
        return Encoder(Tokenizer.restore(self.tokenizer, trusted=[self.package]), self.form)


def packed_encoder(encoder: Encoder) -> PackedEncoder:
    """What another process makes the same encoder from."""
    package = type(encoder.tokenizer).__module__.partition(".")[0]
    return PackedEncoder(encoder.tokenizer.state(), package, encoder.form)


_encoder: Encoder | None = None
_parent = 0


def _begin(packed: PackedEncoder, parent: int) -> None:
    global _encoder, _parent
    _encoder, _parent = packed.opened(), parent


def _shard(packet: Packet) -> None:
    assert _encoder is not None
    encoded = _encoder.encode(packet.pieces)
    if os.getppid() == _parent:  # else who wanted it is gone, and another may be at work in its place
        write_shard(packet.shard, encoded)
