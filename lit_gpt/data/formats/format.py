"""Formats: how a document becomes segments of text and special tokens with a loss mask; prompts that ask for an answer.

Knows: texts, records, their fields. Does not know: ids, splits, windows.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lit_gpt.config.class_paths import class_path
from lit_gpt.data.chunks import Content, Segment
from lit_gpt.errors import UserError, not_implemented

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer


class Format:
    """The base of all formats. A subclass writes `segments`, and names in `special_tokens` those that it puts in.

    A format lays out each document by itself, from its content and its number alone, so that any number of processes
    makes the same ids.
    """

    #: A text may be cut where it is too long to be held, and at the border of two splits.
    divisible = False

    @property
    def framed(self) -> bool:
        """Whether bos and eos are put around a document; else its segments say by themselves where they stand."""
        return True

    @property
    def whole_text(self) -> bool:
        """Whether the ids are those of the whole text encoded at once, not of each segment by itself."""
        return False

    @property
    def notes(self) -> list[str]:
        """Lines to print before documents are laid out."""
        return []

    def __call__(self) -> "Format":
        """Itself, so that a made format may stand where a class to be made is expected."""
        return self

    @property
    def special_tokens(self) -> list[str]:
        """Names of the special tokens that the tokenizer has to have."""
        return []

    @property
    def example(self) -> dict[str, Any] | None:
        """The fields that `question` needs of a record, with dots for their texts; None where nothing can be asked."""
        return None

    @property
    def stops(self) -> list[str]:
        """Names of the special tokens that end an answer, besides those that end every text."""
        return []

    @property
    def stop_texts(self) -> list[str]:
        """Texts that end an answer, where no special token does."""
        return []

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Format":
        """The format with what it takes from the tokenizer, such as a template of conversations; itself by default."""
        return self

    def segments(self, content: Content, number: int) -> list[Segment]:
        """The document laid out; without bos and eos, which are put around it.

        Args:
            content: The document's text or record.
            number: Which document of the text it is, for what is drawn at random.

        Raises:
            UserError: a field is missing or of another type; without the place, which is put ahead of it.
        """
        raise not_implemented(self, "segments")

    def question(self, content: Content) -> list[Segment]:
        """What stands ahead of a record's answer, for whoever lets a model write it; the answer itself may be missing.

        Raises:
            UserError: a field is missing or of another type, or nothing can be asked in this format.
        """
        raise UserError(f"{type(self).__name__} asks for no answer; give a text to go on from")

    def identity(self) -> dict[str, Any]:
        """What has to be equal for the ids of documents to be equal."""
        return {**self.configuration(), **({"encoded": "whole"} if self.whole_text else {})}

    def configuration(self) -> dict[str, Any]:
        """Class and arguments: what decides the segments."""
        arguments = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {"class_path": class_path(type(self)), "init_args": arguments}


class PlainText(Format):
    """A text as it is, all of it learned."""

    divisible = True

    def segments(self, content: Content, number: int) -> list[Segment]:
        if not isinstance(content, str):
            raise UserError(
                f"a record with the fields {', '.join(content)} is no plain text; name the field that is"
                " (data.source.field), or give the data.format of such records"
            )
        return [Segment(content)]


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Neighbors that are alike as one, so that no token ends where nothing does; empty texts are left out."""
    made: list[Segment] = []
    for segment in segments:
        if not segment.text:
            continue
        if made and not (segment.special or made[-1].special) and made[-1].trained == segment.trained:
            made[-1] = segment._replace(text=made[-1].text + segment.text)
        else:
            made.append(segment)
    return made
