"""GPT-2's byte-level alphabet (bytes to unicode), and streaming decoding of bytes to text."""

import codecs


class TokenStream:
    """Decodes ids one at a time; a character of several ids comes whole, with the last of them."""

    def __init__(self, token_bytes: list[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def step(self, id: int) -> str:
        """The text that this id completes, which can be empty."""
        return self._decoder.decode(self._token_bytes[id])

    def flush(self) -> str:
        """The rest: empty, or U+FFFD for an incomplete character."""
        return self._decoder.decode(b"", final=True)


def unicode_to_byte() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves, the others for code points from 256 on, in order (GPT-2's table).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in printable]
    codes = {256 + number: value for number, value in enumerate(others)}
    return {chr(value): value for value in printable} | {chr(code): value for code, value in codes.items()}
