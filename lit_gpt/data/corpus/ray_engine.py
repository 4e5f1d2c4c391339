"""The engine for more than one machine: Ray Data hands shards to the processes of a cluster."""

import hashlib
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io
from lit_gpt.data.corpus.encoder import Encoder, Shard, write_shard
from lit_gpt.data.corpus.engines import Engine, packed, unpacked
from lit_gpt.errors import UserError

_ROUND = 16  # shards for each process between two looks at how far it is; what is read ahead lies in Ray's store


class Ray(Engine):
    """Encodes on a Ray cluster: that of RAY_ADDRESS, or one that is started on this machine.

    This process reads the text; the others encode it and write the shards, so the folder has to lie where all machines
    of the cluster see it under one path.

    Args:
        workers: Processes that encode; by default one for each core of the cluster.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def run(self, encoder: Encoder, shards: Iterator[Shard], done: Callable[[int], None]) -> None:
        ray = _imported()
        started = not ray.is_initialized()
        if started:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        try:
            self._run(encoder, shards, done)
        finally:
            if started:
                ray.shutdown()

    def _run(self, encoder: Encoder, shards: Iterator[Shard], done: Callable[[int], None]) -> None:
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        DataContext.get_current().enable_progress_bars = False  # the preparation has its own
        for name in ("ray.data", "ray._private"):
            logging.getLogger(name).setLevel(logging.ERROR)
        workers = self.workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        while some := list(islice(shards, _ROUND * workers)):
            kept = _kept(encoder, some[0].path.parent)
            rows = [{"shard": pickle.dumps(shard), "characters": shard.characters} for shard in some]
            encoded = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                _Shards,
                fn_constructor_args=(str(kept),),
                compute=ActorPoolStrategy(size=min(workers, len(rows))),
            )
            for row in encoded.iter_rows():
                if row["errno"]:  # told as a disk error of this process is
                    raise OSError(int(row["errno"]), os.strerror(int(row["errno"])), row["error"])
                if row["error"]:
                    raise UserError(row["error"])
                done(int(row["characters"]))


def _kept(encoder: Encoder, folder: Path) -> Path:
    """The encoder in a file of the shared folder: an argument of its size would be lost with the machine that keeps it.

    Named by what it holds, and there whole or not at all: one that was left by a process that was killed is not taken.
    """
    content = packed(encoder)
    kept = folder / f"encoder-{hashlib.sha256(content).hexdigest()[:16]}.pickle"
    if not kept.exists():
        with atomic_io.staged_file(kept) as file:
            file.write(content)
    return kept


class _Shards:
    """Lives in each process of the cluster; encodes and writes each shard that it is given."""

    def __init__(self, encoder: str) -> None:
        self.encoder = unpacked(Path(encoder).read_bytes())

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        shard: Shard = pickle.loads(row["shard"])
        try:
            write_shard(shard.path, self.encoder.encode(shard.chunks))
        except UserError as error:
            return _outcome(shard, str(error))
        except OSError as error:
            if error.errno is None:
                raise
            return _outcome(shard, str(error.filename or shard.path), error.errno)
        return _outcome(shard)


def _outcome(shard: Shard, error: str = "", errno: int = 0) -> dict[str, Any]:
    """What a process says of a shard: a row of plain values, as Ray carries them."""
    return {"characters": shard.characters, "error": error, "errno": errno}


def _imported() -> Any:
    try:
        import ray
        import ray.data  # its own dependencies may be missing where Ray is there
    except ImportError as error:
        raise UserError(f"--engine ray needs Ray ({error}); pip install 'lit-gpt[ray]'") from None
    return ray
