"""Language: keeps documents in certain languages, detected by CLD2."""

import re
from typing import Any

from lit_gpt.data.filters.filter import Filter
from lit_gpt.errors import UserError

#: What the library takes for damage, though it is text: control characters, half surrogate pairs, non-characters.
_NOT_READ = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0001fffd\U00020000-\U0002fffd]"
)
_AMOUNT = 20_000  # characters that are looked at: a few are enough, and a book would take long


class Language(Filter):
    """Documents in certain languages, as Chromium's CLD2 tells them; the same answer on every machine.

    It needs no network and some 20 microseconds a document. A text of 50 characters it knows nearly always, one of 20
    mostly (of 300 pieces each: English verse 99 and 87 %, encyclopedia 99 and 72 %, classical Chinese 98 and 81 %); a
    text that it is not certain of is dropped. Of a document of more than 20,000 characters the first are looked at.

    Args:
        only: Codes of the languages that stay: en, de, zh (or zh-Hant, those in traditional characters).
        share: Of a document that mixes languages, how much of the text has to be in them.
    """

    def __init__(self, only: list[str], share: float = 0.5) -> None:
        if not only or isinstance(only, str):
            raise UserError(f"filter Language: only is {only!r}; give a list of codes, such as [en, zh]")
        if not 0 < share <= 1:
            raise UserError(f"filter Language: share is {share}; give one above 0 and up to 1")
        library = _library()
        known = {code for name, code in library.LANGUAGES if name in library.DETECTED_LANGUAGES}
        for code in only:
            if code not in known:
                raise UserError(f"filter Language: no language {code!r} is known; there are {', '.join(sorted(known))}")
        self.only, self.share = list(only), share

    @property
    def reason(self) -> str:
        """Which languages it is not in."""
        return f"not in {' or '.join(self.only)}"

    def keeps(self, text: str) -> bool:
        """Whether enough of the text is in one of the languages."""
        certain, _, found = _library().detect(_NOT_READ.sub(" ", text[:_AMOUNT]))
        share = sum(percent for _, code, percent, _ in found if {code, code.partition("-")[0]} & set(self.only))
        return bool(certain and share >= 100 * self.share)


def _library() -> Any:
    try:
        import pycld2
    except ImportError:
        raise UserError(
            "filter Language needs the package pycld2; install it: pip install 'lit-gpt[language]'"
        ) from None
    return pycld2
