"""Base class of formats, which turn a document into segments of text and special tokens with a loss mask."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lit_gpt.config.class_paths import class_path
from lit_gpt.data.chunks import Content, Segment
from lit_gpt.errors import UserError, not_implemented

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer


class Format:
    """The base of all formats. A subclass implements `segments`, and lists in `special_tokens` those that it inserts.

    The segments of a document depend on its content and its number only, so that any number of processes produces the
    same ids.
    """

    #: Whether a text may be split where it is too long for memory, and at the border of two splits.
    divisible = False

    @property
    def framed(self) -> bool:
        """Whether preparation adds bos and eos around a document; else the segments contain them."""
        return True

    @property
    def whole_text(self) -> bool:
        """Whether the whole text is encoded at once, rather than each segment separately."""
        return False

    @property
    def notes(self) -> list[str]:
        """Lines to print before preparation."""
        return []

    def __call__(self) -> "Format":
        """Returns self, so that an instance works as a factory."""
        return self

    @property
    def special_tokens(self) -> list[str]:
        """Special tokens that the tokenizer must have."""
        return []

    @property
    def example(self) -> dict[str, Any] | None:
        """The fields of a record that `question` needs, with dots for their texts; None if there is no question."""
        return None

    @property
    def stops(self) -> list[str]:
        """Special tokens that end an answer, besides those that end every text."""
        return []

    @property
    def stop_texts(self) -> list[str]:
        """Texts that end an answer, if no special token does."""
        return []

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Format":
        """The format with what it takes from the tokenizer, such as a chat template."""
        return self

    def segments(self, content: Content, number: int) -> list[Segment]:
        """The segments of a document, without the bos and eos of `framed`.

        Args:
            content: The document's text or record.
            number: Index of the document, for random draws.

        Raises:
            UserError: A field is missing or of another type; the caller adds the file and line.
        """
        raise not_implemented(self, "segments")

    def question(self, content: Content) -> list[Segment]:
        """The prompt of a record, for generation; the record may lack the answer.

        Raises:
            UserError: A field is missing or of another type, or the format has no question.
        """
        raise UserError(f"{type(self).__name__} has no question and answer; give a text as prompt")

    def identity(self) -> dict[str, Any]:
        """What determines the ids of documents, for fingerprints."""
        return {**self.configuration(), **({"encoded": "whole"} if self.whole_text else {})}

    def configuration(self) -> dict[str, Any]:
        """Class path and arguments."""
        arguments = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {"class_path": class_path(type(self)), "init_args": arguments}


class PlainText(Format):
    """A text as it is; all of it is trained on."""

    divisible = True

    def segments(self, content: Content, number: int) -> list[Segment]:
        if not isinstance(content, str):
            raise UserError(
                f"a record with the fields {', '.join(content)} is no plain text; name the field that is"
                " (data.source.field), or give the data.format of such records"
            )
        return [Segment(content)]


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Merges neighboring texts with the same loss mask, so that tokens may span them; drops empty ones."""
    merged: list[Segment] = []
    for segment in segments:
        if not segment.text:
            continue
        if merged and not (segment.special or merged[-1].special) and merged[-1].trained == segment.trained:
            merged[-1] = segment._replace(text=merged[-1].text + segment.text)
        else:
            merged.append(segment)
    return merged
