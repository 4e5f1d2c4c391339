"""Fill-in-the-middle format (FIM): prefix and suffix of a text first, then its middle."""

import hashlib
from typing import Any

from lit_gpt.data.chunks import Content, Segment
from lit_gpt.data.formats.format import Format
from lit_gpt.data.formats.records import record_of, text_field
from lit_gpt.errors import UserError


class FillInTheMiddle(Format):
    """Some of the texts cut in three, the middle moved to the end: Bavarian et al. 2022, arXiv:2207.14255.

    The cuts are between any two characters, evenly drawn. Laid out as <prefix> before <suffix> after <middle> middle
    (PSM), or as <prefix><suffix> after <middle> before middle (SPM). All tokens are trained on. Each part is encoded
    separately, as in an editor's request. The draws depend on `seed` and on the text's number only.

    Args:
        rate: Share of the texts that are cut; the others stay whole.
        spm_rate: Share of the cut texts in the order SPM.
        seed: Seed of the draws.
        prefix: Special token ahead of the text before the gap; the three defaults are StarCoder's.
        middle: Special token ahead of the middle.
        suffix: Special token ahead of the text after the gap.
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
        return [self.prefix, self.middle, self.suffix]

    def segments(self, content: Content, number: int) -> list[Segment]:
        if not isinstance(content, str):
            raise UserError(
                f"a record with the fields {', '.join(content)} is no plain text; name the field that is"
                " (data.source.field)"
            )
        cut, order, first_cut, second_cut = self._draws(number)
        if cut >= self.rate or not content:
            return [Segment(content)]
        start, end = sorted(int(share * (len(content) + 1)) for share in (first_cut, second_cut))
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
        """The prompt (PSM) of a record with the fields `before` and `after`."""
        record = record_of(content, self)
        before, after = (text_field(record, name) for name in ("before", "after"))
        prefix, gap, suffix = (Segment(name, special=True) for name in (self.prefix, self.middle, self.suffix))
        return [segment for segment in [prefix, Segment(before), suffix, Segment(after), gap] if segment.text]

    def _draws(self, number: int) -> list[float]:
        """Four numbers in [0, 1), the same on every machine and in every version of Python."""
        digest = hashlib.blake2b(f"{self.seed} {number}".encode(), digest_size=32, person=b"fill in middle").digest()
        return [int.from_bytes(digest[at : at + 8], "little") / 2**64 for at in range(0, 32, 8)]
