"""Texts with a gap, so that a model learns to fill one in: what stands before and after it is given, then the middle.

Knows: where a text is cut, in which order its parts stand. Does not know: ids, files, what the text is.
"""

import hashlib
from typing import Any

from lit_gpt.data.chunks import Content, Segment
from lit_gpt.data.formats.format import Format
from lit_gpt.data.formats.records import record_of, text_field
from lit_gpt.errors import UserError


class FillInTheMiddle(Format):
    """Some of the texts cut in three, the middle moved to the end: Bavarian et al. 2022, arXiv:2207.14255.

    The cuts are between any two characters, evenly drawn. Laid out as <prefix> before <suffix> after <middle> middle
    (PSM), or as <prefix><suffix> after <middle> before middle (SPM). All is learned. Each part is encoded by itself, so
    a cut is a border of tokens, as it is when an editor asks. What is drawn depends on `seed` and on the number of the
    text alone.

    Args:
        rate: Share of the texts that are cut; the rest stay as they are.
        spm_rate: Share of those that are laid out as SPM.
        seed: Of what is drawn.
        prefix: Name of the special token ahead of what stands before the gap; the three defaults are StarCoder's.
        middle: Of the one ahead of the middle.
        suffix: Of the one ahead of what stands after the gap.
    """

    def __init__(
        self,
        rate: float = 0.5,
        spm_rate: float = 0.5,
        seed: int = 0,
        prefix: str = "<fim_prefix>",
        middle: str = "<fim_middle>",
        suffix: str = "<fim_suffix>",
    ) -> None:
        for name, share in (("rate", rate), ("spm_rate", spm_rate)):
            if not 0 <= share <= 1:
                raise UserError(f"data.format.{name} is {share}; give a share from 0 to 1")
        if "" in (prefix, middle, suffix) or len({prefix, middle, suffix}) < 3:
            raise UserError(
                f"data.format has the special tokens {prefix!r}, {middle!r} and {suffix!r}; give three different names"
            )
        self.rate, self.spm_rate, self.seed = rate, spm_rate, seed
        self.prefix, self.middle, self.suffix = prefix, middle, suffix

    @property
    def special_tokens(self) -> list[str]:
        """The three that stand ahead of the parts."""
        return [self.prefix, self.middle, self.suffix]

    def segments(self, content: Content, number: int) -> list[Segment]:
        """The text as it is, or its three parts behind their special tokens."""
        if not isinstance(content, str):
            raise UserError(
                f"a record with the fields {', '.join(content)} is no plain text; name the field that is"
                " (data.source.field)"
            )
        cut, order, one, other = self._drawn(number)
        if cut >= self.rate or not content:
            return [Segment(content)]
        # Between characters, before the first and after the last: one place more than there are characters.
        start, end = sorted(int(share * (len(content) + 1)) for share in (one, other))
        before, middle, after = content[:start], content[start:end], content[end:]
        prefix, gap, suffix = (Segment(name, special=True) for name in (self.prefix, self.middle, self.suffix))
        if order < self.spm_rate:
            segments = [prefix, suffix, Segment(after), gap, Segment(before), Segment(middle)]
        else:
            segments = [prefix, Segment(before), suffix, Segment(after), gap, Segment(middle)]
        return [segment for segment in segments if segment.text]

    @property
    def example(self) -> dict[str, Any]:
        return {"before": "...", "after": "..."}

    def question(self, content: Content) -> list[Segment]:
        """What stands before and after a gap that shall be filled: a record with the fields `before` and `after`."""
        record = record_of(content, self)
        before, after = (text_field(record, name) for name in ("before", "after"))
        prefix, gap, suffix = (Segment(name, special=True) for name in (self.prefix, self.middle, self.suffix))
        return [segment for segment in [prefix, Segment(before), suffix, Segment(after), gap] if segment.text]

    def _drawn(self, number: int) -> list[float]:
        """Four numbers from 0 up to 1, the same on every machine and in every version of Python."""
        drawn = hashlib.blake2b(f"{self.seed} {number}".encode(), digest_size=32, person=b"fill in middle").digest()
        return [int.from_bytes(drawn[at : at + 8], "little") / 2**64 for at in range(0, 32, 8)]
