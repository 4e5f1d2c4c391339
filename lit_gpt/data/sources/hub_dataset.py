"""HubDataset: documents from the datasets library, by a name on the hub or a local folder.

The library runs no code of a dataset: since its fourth version it refuses those that bring some.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lit_gpt.data.chunks import Chunk, text_of
from lit_gpt.data.folders import cache_folder
from lit_gpt.data.sources.files import stat_signature, walk
from lit_gpt.data.sources.record_files import check_field, no_field, text_in, without_nulls
from lit_gpt.data.sources.source import Source
from lit_gpt.errors import UserError

_OFFLINE = (
    "with network it is read from the hub; without (HF_HUB_OFFLINE, or no way to huggingface.co) it has to be in the"
    " library's cache (read once with streaming false), or give the paths of local files to Parquet or JsonLines"
)
#: What the library and publishers call a text's own splits.
_OWN = {"val": ("validation", "val", "valid", "dev"), "test": ("test",)}


class HubDataset(Source):
    """A dataset of the hub, or a folder that the datasets library reads: files of data, or what `save_to_disk` wrote.

    The commit of a hub dataset is looked up at its first use, so that each reading gives the same text. A folder's own
    validation and test splits go before val_fraction and test_fraction where its train split is read; own val_source
    and test_source go before them.

    Args:
        name: Name on the hub (roneneldan/TinyStories), or a folder.
        split: Which split, such as train or validation; without streaming also a part of one (train[:10%]).
        field: The field that holds the text, meta.body for one inside another; null gives a data.format whole records.
        config: Configuration of the dataset, where it has several.
        revision: Branch, tag or commit of the dataset on the hub; by default the newest commit.
        streaming: Read from the hub as it comes; else the whole dataset is kept in the library's cache first.
        limit: Most bytes to take, in whole documents from the start; null takes all.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        field: str | None = "text",
        config: str | None = None,
        revision: str | None = None,
        streaming: bool = True,
        limit: int | None = None,
    ) -> None:
        self.name, self.split, self.field, self.config = name, split, field, config
        self.revision, self.streaming, self.limit = revision, streaming, limit
        self._commit: str | None = None
        self._notes: list[str] = []
        check_field(field)
        if limit is not None and limit < 1:
            raise UserError(f"limit {limit} of HubDataset leaves no text; give a number of bytes, or null for all")
        if self._folder() is not None and revision is not None:
            raise UserError(f"revision {revision} of HubDataset is for the hub, and {name} is a folder; leave it out")

    def chunks(self) -> Iterator[Chunk]:
        self._notes = []
        taken = number = 0
        for number, record in enumerate(self._records(), 1):
            where = f"{self.name} ({self.split}), record {number}"
            content = without_nulls(record) if self.field is None else text_in(record, self.field, where)
            if self.limit is not None:
                taken += len(text_of(content).encode("utf-8", "surrogatepass"))
                if taken > self.limit:
                    self._notes = [
                        f"{self.name}: {number - 1:,} documents within limit {self.limit:,} bytes; left out from record"
                        f" {number:,} on"
                    ]
                    if number == 1:
                        raise UserError(f"limit {self.limit} of HubDataset is less than {where} has; give more bytes")
                    return
            yield Chunk(content, where=where)

    def own_split(self, split: str) -> Source | None:
        folder = self._folder()
        if folder is None or self.split != "train":
            return None
        name = next((name for name in self._splits_in(folder) if name in _OWN.get(split, ())), None)
        if name is None:
            return None
        other = copy.copy(self)
        other.split, other.limit, other._notes = name, None, []
        return other

    def _splits_in(self, folder: Path) -> list[str]:
        """The splits of a folder; none where it cannot be read, which is told when it is."""
        import datasets

        if (folder / "state.json").is_file():
            return []
        try:
            if (folder / "dataset_dict.json").is_file():
                return list(json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"])
            return list(map(str, datasets.load_dataset_builder(str(folder), self.config).config.data_files or ()))
        except Exception:  # the library raises of all kinds
            return []

    def signature(self) -> str | None:
        arguments = f"{type(self).__qualname__} {self.split} {self.field!r} {self.config} {self.limit}"
        folder = self._folder()
        if folder is not None:
            return stat_signature(list(walk(folder, follow=True)), arguments)
        commit = self._pinned()
        return commit and hashlib.sha256(f"{arguments} {self.name} {commit}".encode()).hexdigest()

    def notes(self) -> list[str]:
        commit = [f"{self.name}: commit {self._commit}"] if self._commit else []
        return commit + self._notes

    def _folder(self) -> Path | None:
        """The local folder, None for a name on the hub."""
        path = Path(self.name).expanduser()
        if path.is_dir():
            return path
        if path.is_file():
            raise UserError(
                f"name {self.name} of HubDataset is a file; give it to Parquet, JsonLines, Csv or TextFiles"
            )
        if self.name.startswith(("/", ".", "~")) or self.name.count("/") > 1 or not self.name.strip():
            raise UserError(f"there is no folder {self.name}; give a folder, or a name on the hub (name of HubDataset)")
        return None

    def _pinned(self) -> str | None:
        """The commit that is read, None where the hub cannot be asked; always the same once it is known."""
        if self._commit is None:
            import huggingface_hub
            from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

            try:
                info = huggingface_hub.HfApi().dataset_info(self.name, revision=self.revision, timeout=20)
            except RevisionNotFoundError:
                raise UserError(
                    f"dataset {self.name} has no revision {self.revision}; leave it out, or give another"
                ) from None
            except RepositoryNotFoundError:
                raise UserError(
                    f"the hub has no dataset {self.name}, or this user may not read it; check the name, or log in"
                    " (hf auth login)"
                ) from None
            except HfHubHTTPError as error:
                raise UserError(f"the hub refuses dataset {self.name} ({_line(error)}); try again later") from None
            except Exception:  # of the library for HTTP, whichever that is: the dataset may be in the cache
                return None
            self._commit = info.sha
        return self._commit

    def _records(self) -> Iterator[dict[str, Any]]:
        rows = self._opened()
        names = list(rows.column_names or ())
        if self.field is not None and names:
            top = self.field if self.field in names else self.field.split(".")[0]
            if top not in names:
                raise no_field(self.field, names, f"{self.name} ({self.split})")
            rows = rows.select_columns([top])  # pictures and sound need not be decoded
        number = 0
        rows = iter(rows)
        while True:
            try:
                record = next(rows, None)
            except Exception as error:  # of whatever reads the dataset's files, or of the network
                raise UserError(
                    f"{self.name} ({self.split}) cannot be read after record {number} ({_line(error)}); try again, or"
                    " give its files to Parquet, JsonLines, Csv or TextFiles"
                ) from None
            if record is None:
                return
            number += 1
            yield record

    def _opened(self) -> Any:
        import datasets

        folder = self._folder()
        try:
            if folder and (folder / "dataset_dict.json").is_file():
                splits = datasets.load_from_disk(str(folder))
                if self.split not in splits:
                    raise UserError(f"{self.name} has no split {self.split!r}; it has {', '.join(splits)} (split)")
                return splits[self.split]
            if folder and (folder / "state.json").is_file():
                if self.split != "train":
                    raise UserError(f"{self.name} holds one dataset without splits; leave split {self.split!r} out")
                return datasets.load_from_disk(str(folder))
            revision = None if folder else self._pinned() or self.revision
            streaming = self.streaming and (folder is not None or self._commit is not None)
            name = str(folder) if folder else self.name
            if folder and not streaming:
                return self._from_files(folder)
            return datasets.load_dataset(name, self.config, split=self.split, revision=revision, streaming=streaming)
        except UserError:
            raise
        except ConnectionError:
            raise UserError(f"the hub cannot be reached for dataset {self.name}: {_OFFLINE}") from None
        except Exception as error:  # the library raises of all kinds
            slices = ", streaming false for a part of a split" if "[" in self.split and self.streaming else ""
            raise UserError(
                f"dataset {self.name} cannot be opened ({_line(error)}); check name, split and config{slices}"
            ) from None

    def _from_files(self, folder: Path) -> Any:
        """A folder's files through the library's cache, which is rebuilt where any of them was written.

        The library itself compares sizes and times alone.
        """
        import datasets

        place = f"{folder.resolve()} {self.config} {datasets.config.HF_DATASETS_CACHE}"
        known = cache_folder() / "hub" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"
        state = stat_signature(list(walk(folder, follow=True)), datasets.__version__)
        same = False
        with suppress(OSError, ValueError):
            same = json.loads(known.read_text(encoding="utf-8")) == state
        mode = None if same else "force_redownload"
        rows = datasets.load_dataset(str(folder), self.config, split=self.split, download_mode=mode)
        with suppress(OSError):  # not noted, it is made anew the next time
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps(state), encoding="utf-8")
        return rows


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
