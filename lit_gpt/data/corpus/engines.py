"""Engines that encode shards: in this process, in processes of this machine. All write the same bytes."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from lit_gpt import signals
from lit_gpt.data.corpus.encoder import Encoder, Shard, write_shard
from lit_gpt.data.corpus.working_folder import Stopped
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError, not_implemented

_AHEAD = 2  # shards that wait for each process


class Engine:
    """The base of all engines. A subclass writes `run`."""

    def run(self, encoder: Encoder, shards: Iterator[Shard], done: Callable[[int], None]) -> None:
        """Encodes each shard and writes its file.

        Args:
            encoder: Encodes chunks.
            shards: Taken as they are needed.
            done: Called with the number of characters of each shard when its file is written.
        """
        raise not_implemented(self, "run")


class InProcess(Engine):
    """Encodes in this process; the tokenizers library spreads what it can over the cores."""

    def run(self, encoder: Encoder, shards: Iterator[Shard], done: Callable[[int], None]) -> None:
        for shard in shards:
            write_shard(shard.path, encoder.encode(shard.chunks))
            done(shard.characters)


class Processes(Engine):
    """Encodes in processes of this machine, by loky.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UserError(f"{count} workers cannot encode anything; give at least 1")
        self.count = count

    def run(self, encoder: Encoder, shards: Iterator[Shard], done: Callable[[int], None]) -> None:
        from loky import ProcessPoolExecutor
        from loky.process_executor import TerminatedWorkerError

        # One thread each: the processes are what fills the cores.
        alone = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        begin = (packed(encoder), os.getpid())
        executor = ProcessPoolExecutor(self.count, initializer=_begin, initargs=begin, env=alone)
        waiting: deque[tuple[Any, int]] = deque()
        try:
            for shard in shards:
                with signals.kept_from_children():  # they are started when there is work
                    future = executor.submit(_write, shard)
                waiting.append((future, shard.characters))
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


def packed(encoder: Encoder) -> bytes:
    """What `unpacked` makes the same encoder from, in another process; classes of a script or notebook included."""
    import cloudpickle

    tokenizer = encoder.tokenizer
    data: bytes = cloudpickle.dumps((type(tokenizer), tokenizer.state(), encoder.format))
    return data


def unpacked(data: bytes) -> Encoder:
    """The encoder again.

    Raises:
        UserError: a class of it cannot be had here.
    """
    import cloudpickle

    try:
        # The class comes first and so is known by the time that the state names it.
        _, state, format = cloudpickle.loads(data)
        return Encoder(Tokenizer.restore(state), format)
    except (ImportError, AttributeError, UserError) as error:
        raise UserError(
            f"the tokenizer or format cannot be made in another process ({error}); put its class into a module on"
            " PYTHONPATH"
        ) from None


_encoder: Encoder | UserError | None = None
_parent = 0


def _begin(data: bytes, parent: int) -> None:
    global _encoder, _parent
    _parent = parent
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        _encoder = unpacked(data)
    except UserError as error:  # told with the first shard: here it would only end the process
        _encoder = error


def _end_with(parent: int) -> None:
    """Ends this process when the one that started it is gone: after a SIGKILL nobody else does."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _write(shard: Shard) -> None:
    if isinstance(_encoder, UserError):
        raise _encoder
    assert _encoder is not None
    encoded = _encoder.encode(shard.chunks)
    if os.getppid() == _parent:  # else who wanted it is gone, and another may be at work in its place
        write_shard(shard.path, encoded)
