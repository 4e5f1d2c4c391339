"""Text generation from prompts, streamed or in batches, with stop strings and incremental detokenization."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict, Unpack

from lit_gpt.data.chunks import Segment
from lit_gpt.data.formats.format import Format
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError
from lit_gpt.generate.engine import generate
from lit_gpt.generate.logits_processors import SuppressTokens, build_logits_processors
from lit_gpt.model import GPT

Prompt = str | Sequence[int]  # text or token ids


class Options(TypedDict, total=False):
    """Keyword arguments of `TextGenerator.stream_batch`, which the other methods pass on."""

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    seed: int | Sequence[int] | None
    stop: Sequence[str]


class TextGenerator:
    """Generates text from prompts with a net and its tokenizer.

    BOS is put before a prompt where the tokenizer was trained with it. An empty prompt starts from BOS, else from EOS,
    else from a newline, else from id 0. The tokenizer's `stop_ids` end a text, mostly EOS and BOS; padding, unknown and
    unused ids are never sampled.

    Args:
        net: The model.
        tokenizer: The one it was trained with.
        format: Format of the records it was trained on, if any; then `question` makes a prompt of a record, and the
            tokens that end an answer end a text.
    """

    def __init__(self, net: GPT, tokenizer: Tokenizer, format: Format | None = None) -> None:
        if tokenizer.vocab_size > net.vocab_size:
            sizes = f"the tokenizer has {tokenizer.vocab_size} ids, the net {net.vocab_size}"
            raise UserError(f"{sizes}: they do not belong together; load both from one checkpoint")
        self.net = net
        self.tokenizer = tokenizer
        self.format = format
        self.stop_ids = tokenizer.stop_ids | {tokenizer.special_id(name) for name in (format.stops if format else ())}
        self.stop_texts = format.stop_texts if format else []
        never = {id for id in (tokenizer.pad, tokenizer.unk) if id is not None} - self.stop_ids
        self.suppress = SuppressTokens(never | tokenizer.unused_ids | set(range(tokenizer.vocab_size, net.vocab_size)))

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Iterator[str]:
        """Yield the generated text in pieces as soon as each is final; options as of `stream_batch`."""
        steps = self.stream_batch([prompt], **options)
        return (piece for (piece,) in steps if piece)

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> str:
        """Return the generated text, without the prompt; options as of `stream_batch`."""
        return "".join(self.stream(prompt, **options))

    def generate_batch(self, prompts: Sequence[Prompt], **options: Unpack[Options]) -> list[str]:
        """Return the generated texts of a batch of prompts; options as of `stream_batch`."""
        texts = [""] * len(prompts)
        for step in self.stream_batch(prompts, **options) if prompts else ():
            for row, piece in enumerate(step):
                texts[row] += piece or ""
        return texts

    def stream_batch(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int | Sequence[int] | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[list[str | None]]:
        """Yield one list a step: the next piece of each text, "" while none is final, None once the text has ended.

        Pieces are whole characters. Each row samples for itself, so equal prompts get different texts.

        Args:
            prompts: Texts, which may be empty, or token ids, as `question` makes them.
            max_new_tokens: At most; a text that outgrows the context continues from the last half of it.
            temperature: 0 for greedy decoding.
            top_k: See `logits_processors.TopK`; None for off, as of the next two.
            top_p: See `logits_processors.TopP`.
            min_p: See `logits_processors.MinP`.
            repetition_penalty: See `logits_processors.RepetitionPenalty`; 1 for off.
            seed: Same seed, same text; one for each prompt may be given; None takes a fresh one.
            stop: Strings that end a text; neither they nor what follows them is yielded.

        Raises:
            UserError: The tokenizer or the net cannot take a prompt.
            UserError: Another option is out of range.
        """
        if isinstance(stop, str):
            raise UserError(f"stop is the string {stop!r}; give a list of strings, such as [{stop!r}]")
        rows = [_Row(self.tokenizer, self.stop_ids, [*stop, *self.stop_texts]) for _ in prompts]
        finished: set[int] = set()
        steps = generate(
            self.net,
            [self.encode(prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts],
            max_new_tokens=max_new_tokens,
            logits_processors=[
                self.suppress,
                *build_logits_processors(temperature, top_k, top_p, min_p, repetition_penalty),
            ],
            seed=seed,
            stop_ids=self.stop_ids,
            finished=finished,
        )
        return _pieces(steps, rows, finished, max_new_tokens)

    def encode(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt, at least one.

        Raises:
            UserError: The prompt has a character that the tokenizer cannot encode.
        """
        tokenizer, ids = self.tokenizer, self._ids(prompt)
        if tokenizer.starts_with_bos and tokenizer.bos is not None:
            return [tokenizer.bos, *ids]
        if ids:
            return ids
        for start in (tokenizer.bos, tokenizer.eos):
            if start is not None:
                return [start]
        try:
            return tokenizer.encode("\n")
        except ValueError:  # a character vocabulary without a newline
            return [0]

    def question(self, record: str | dict[str, Any]) -> list[int]:
        """Return the token ids that ask for a record's answer, formatted as in training.

        The record's text never becomes a special token.

        Raises:
            UserError: The format asks for nothing, a field is missing, or a character cannot be encoded.
        """
        if self.format is None:
            raise UserError("the net was trained on plain text, which asks for no answer; give a text prompt")
        tokenizer, segments = self.tokenizer, self.format.question(record)
        if self.format.framed and tokenizer.bos is not None:
            segments = [Segment(tokenizer.token(tokenizer.bos), special=True, trained=False), *segments]
        if self.format.whole_text:
            whole = "".join(segment.text for segment in segments)
            return self._checked(
                whole, lambda _: [int(id) for ids, _ in tokenizer.encode_segments([segments]) for id in ids]
            )
        ids: list[int] = []
        for segment in segments:
            ids += [tokenizer.special_id(segment.text)] if segment.special else self._ids(segment.text)
        return ids

    def _ids(self, text: str) -> list[int]:
        return self._checked(text, self.tokenizer.encode)

    def _checked(self, text: str, encode: Callable[[str], list[int]]) -> list[int]:
        try:
            text.encode("utf-8")
            return encode(text)
        except UnicodeEncodeError as error:
            code = f"U+{ord(text[error.start]):04X} at position {error.start}"
            raise UserError(f"the prompt has {code}, a lone surrogate: it is not valid UTF-8; convert it") from None
        except ValueError as error:
            raise UserError(f"the prompt cannot be encoded: {error}") from None


def _pieces(
    steps: Iterator[list[int | None]], rows: "list[_Row]", finished: set[int], max_new_tokens: int
) -> Iterator[list[str | None]]:
    """Detokenize the steps of the engine; rows that met a stop string are added to `finished`."""
    for number, step in enumerate(steps, start=1):
        pieces: list[str | None] = []
        for index, (row, id) in enumerate(zip(rows, step, strict=True)):
            pieces.append(None if id is None else row.push(id, last=number == max_new_tokens))
            if row.ended:
                finished.add(index)
        yield pieces


class _Row:
    """Incremental detokenizer of one row, up to a stop id or a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: frozenset[int], stop: Sequence[str]) -> None:
        self.characters = tokenizer.stream()
        self.stop_ids = stop_ids
        self.stops = StopStrings(stop)
        self.ended = False

    def push(self, id: int, last: bool) -> str:
        """Take one more id; return the text that is final now: all of it after the last id or a stop id."""
        ended = id in self.stop_ids
        text, last = "" if ended else self.characters.step(id), last or ended
        piece = self.stops.push(text + self.characters.flush() if last else text)
        if last and not self.stops.found:
            piece += self.stops.held
        self.ended = last or self.stops.found
        return piece


class StopStrings:
    """Passes text on up to the first complete stop string; holds back what may be the start of one."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        if isinstance(stop, str):
            raise UserError(f"stop is the string {stop!r}; give a list of strings, such as [{stop!r}]")
        if not all(stop):
            raise UserError("stop holds an empty string, which would end every text before it starts; remove it")
        self.stop = tuple(stop)
        self.held = ""  # end of the text that may be the start of a stop string
        self.found = False

    def push(self, text: str) -> str:
        """Take more text; return what certainly precedes any stop string."""
        if self.found:
            return ""
        text = self.held + text
        found = [(text.find(stop), len(stop)) for stop in self.stop]
        ends = [(start + length, start) for start, length in found if start >= 0]
        if ends:
            # the first to be complete, not the first to begin: the cut must not depend on how text arrives
            self.found, self.held = True, ""
            return text[: min(ends)[1]]
        hold = max((self._overlap(text, stop) for stop in self.stop), default=0)
        self.held = text[len(text) - hold :]
        return text[: len(text) - hold]

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Return how many characters at the end of text start the stop string."""
        lengths = range(min(len(text), len(stop) - 1), 0, -1)
        return next((length for length in lengths if text.endswith(stop[:length])), 0)
