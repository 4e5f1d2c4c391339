"""Prepared: an opened folder of corpora and their tokenizer, with counts of what was dropped, cut or repeated."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_gpt.data.corpus.corpus import VERSION, Corpus
from lit_gpt.data.corpus.encode import FORCED
from lit_gpt.data.folders import read_manifest
from lit_gpt.data.progress import Progress
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

FORMAT = "lit_gpt prepared text"
_SAID = ("identity", "tokenizer", "sources", "splits", "dropped", "dropped_characters", "cut", "notes")


@dataclass
class Prepared:
    """A prepared folder, opened; `warnings` are lines on the sources as they are now."""

    folder: Path
    tokenizer: Tokenizer
    corpora: dict[str, Corpus]
    manifest: dict[str, Any]
    reused: bool
    warnings: list[str] = field(default_factory=list)

    def verify(self) -> None:
        """Compares the checksum of every file; raises UserError for one that was changed."""
        size = sum(facts["bytes"] for one in self.corpora.values() for facts in one.manifest["files"].values())
        with Progress("verifying", size, "bytes") as progress:
            for corpus in self.corpora.values():
                corpus.verify(progress)

    def notes(self) -> list[str]:
        """Lines on what of the sources is not read or read twice, and on what their readers report."""
        return [*self.warnings, *self.manifest["notes"]]

    def dropped(self) -> Iterator[str]:
        """Lines on what of the text was dropped or cut, counted by reason."""
        for split, reasons in self.manifest["dropped"].items():
            of = f" of {split}" if split else ""
            for reason, count in sorted(reasons.items(), key=lambda one: -one[1]):
                yield f"{count:,} document{'' if count == 1 else 's'}{of}: {reason}"
        if self.manifest["dropped"]:
            yield f"{self.manifest['dropped_characters']:,} characters in all"
        if self.manifest["cut"]:
            yield f"nothing, but {self.manifest['cut']:,} words of over {FORCED:,} characters are cut into several"


def open_prepared(folder: str | Path) -> Prepared:
    """Opens a prepared folder, whatever its recipe.

    Raises:
        UserError: It is not a prepared folder, is of another version, or is damaged.
    """
    target = Path(folder).expanduser()
    manifest = prepared_manifest(target)
    found = open_if_current(target, manifest["identity"])
    if found is None:
        raise UserError(f"{target} is not whole: parts that its manifest names are missing; prepare it again")
    return found


def prepared_manifest(target: Path) -> dict[str, Any]:
    """The manifest of a prepared folder."""
    return read_manifest(target / "manifest.json", FORMAT, VERSION, _SAID)


def open_if_current(target: Path, identity: dict[str, Any]) -> Prepared | None:
    """Opens a prepared folder if it is that of the recipe; None if it has to be prepared."""
    if not target.exists():
        return None
    if not target.is_dir():
        raise UserError(f"data.folder {target} is a file; give a folder")
    if not (target / "manifest.json").exists():
        if any(target.iterdir()):
            raise UserError(f"data.folder {target} holds other files and no corpus; give a new or an empty folder")
        return None
    manifest = prepared_manifest(target)
    # A trained tokenizer is asked for by its fingerprint, one to be trained by its arguments.
    if identity not in (manifest["identity"], {**manifest["identity"], "tokenizer": manifest["tokenizer"]}):
        return None
    if not all((target / part).exists() for part in ("tokenizer.json", *manifest["splits"])):
        return None  # removed by hand, as is advised where a part is damaged
    try:
        tokenizer = Tokenizer.load(target / "tokenizer.json")
    except UserError as error:
        raise UserError(f"{error}; or remove {target} and prepare again") from None
    fingerprint = tokenizer.fingerprint()
    corpora = {split: Corpus(target / split, tokenizer.vocab_size) for split in manifest["splits"]}
    for split, corpus in corpora.items():
        if not corpus.manifest["tokenizer"] == manifest["tokenizer"] == fingerprint:
            raise UserError(
                f"{target / split} was written with another tokenizer than {target / 'tokenizer.json'}; remove {target}"
            )
    return Prepared(target, tokenizer, corpora, manifest, reused=True)
