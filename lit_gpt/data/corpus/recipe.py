"""Recipe: all that decides which ids a prepared folder holds, and the identity by which it is found again."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from lit_gpt.data.corpus.corpus import VERSION
from lit_gpt.data.corpus.scan import Scan, scan
from lit_gpt.data.filters.filter import Filter
from lit_gpt.data.formats.format import Format, PlainText
from lit_gpt.data.sources.source import Source
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

SplitBy = Literal["position", "document", "hash"]
TRAIN, VAL, TEST = "train", "val", "test"
HASHED = 1 << 20  # characters of a document, from its beginning, that split_by hash looks at
_MANY = 20  # below this many documents, whole ones meet a fraction too badly


def resolve(by: SplitBy | None, documents: int) -> SplitBy:
    """`split_by` as given, else by document from 20 documents on, by position below."""
    return by or ("document" if documents >= _MANY else "position")


class Fractions(NamedTuple):
    """Shares of the text for validation and test; the rest is for training."""

    val: float
    test: float

    def check(self) -> None:
        """Refuses shares that leave nothing to train on."""
        for name, value in (("val_fraction", self.val), ("test_fraction", self.test)):
            if not 0 <= value < 1:
                raise UserError(
                    f"{name} {value} is out of range; give a share of the text from 0 to below 1, such as 0.1"
                )
        if self.val + self.test >= 1:
            raise UserError(
                f"val_fraction {self.val} and test_fraction {self.test} leave nothing to train on;"
                " make their sum less than 1"
            )


@dataclass
class Recipe:
    """All that decides which ids are written.

    Args:
        source: The main text.
        tokenizer: Trained, or to be trained on the training split.
        shares: Parts of the main text for validation and test.
        split_by: See `split.split_chunks`.
        val_source: Validation text of its own; then nothing of the main text is taken for it.
        test_source: Test text of its own.
        extra_val: Further validation texts, by name.
        format: How each document is laid out.
        filters: What drops documents of the main text.
    """

    source: Source
    tokenizer: Tokenizer
    shares: Fractions
    split_by: SplitBy | None = None
    val_source: Source | None = None
    test_source: Source | None = None
    extra_val: dict[str, Source] = field(default_factory=dict)
    format: Format = field(default_factory=PlainText)
    filters: list[Filter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shares.check()
        self.val_source = self.val_source or self.source.own_split(VAL)
        self.test_source = self.test_source or self.source.own_split(TEST)
        val = 0.0 if self.val_source else self.shares.val
        self.shares = Fractions(val, 0.0 if self.test_source else self.shares.test)
        if not val and not self.val_source:
            raise UserError("val_fraction 0 leaves no validation text; give one above 0, or a val_source")
        if self.source.repeats and (val or self.shares.test):
            if self.split_by not in (None, "hash"):
                raise UserError(
                    f"split_by {self.split_by} would put documents that {type(self.source).__name__} reads again into"
                    " training and validation; take split_by hash, or give a val_source"
                )
            self.split_by = "hash"
        for name in self.extra_val:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
                raise UserError(
                    f"extra_val has a text named {name!r}; use letters, digits, _ . and - (it names a metric)"
                )
            if name in (TRAIN, VAL, TEST):
                raise UserError(f"extra_val has a text named {name!r}, as a split is; give it another name")
        self.format = self.format.for_tokenizer(self.tokenizer)
        tags = [name for source in self.sources() for name in source.special_tokens]
        self.tokenizer.with_special([*self.format.special_tokens, *tags])

    def own_sources(self) -> dict[str, Source]:
        """The sources that are a split whole, by split."""
        extra = {f"extra/{name}": source for name, source in self.extra_val.items()}
        own = {VAL: self.val_source, TEST: self.test_source, **extra}
        return {split: source for split, source in own.items() if source is not None}

    def sources(self) -> list[Source]:
        """All sources, the main one first."""
        return [self.source, *self.own_sources().values()]

    def splits(self) -> list[str]:
        """The splits that will be written, in order."""
        test = [TEST] if self.shares.test or self.test_source else []
        return [TRAIN, VAL, *test, *(f"extra/{name}" for name in self.extra_val)]

    def scans(self) -> dict[str, Scan]:
        """The scan of each text: the main one under "", others under their splits."""
        own = {split: scan(source) for split, source in self.own_sources().items()}
        return {"": scan(self.source, self.filters), **own}

    def identity(self, scans: dict[str, Scan]) -> dict[str, Any]:
        """What has to be equal for the ids to be equal, in parts that can be named when one has changed."""
        tokenizer: Any = self.tokenizer.fingerprint() if self.tokenizer.trained else self.tokenizer.configuration()
        by = resolve(self.split_by, scans[""].documents)
        hashed = {"hashed": HASHED} if by == "hash" else {}
        identity = {
            "version": VERSION,
            "text": {split: scan.fingerprint for split, scan in scans.items()},
            "split": {"val_fraction": self.shares.val, "test_fraction": self.shares.test, "split_by": by, **hashed},
            "format": self.format.identity(),
            "filters": [one.configuration() for one in self.filters],
            "tokenizer": tokenizer,
        }
        plain: dict[str, Any] = json.loads(json.dumps(identity, default=str))  # as it is read back
        return plain
