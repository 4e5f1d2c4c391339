"""Learning a tokenizer: Ctrl-C ends it, faults come through."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from lit_gpt.data import BPE
from lit_gpt.data.corpus.train_tokenizer import interruptible
from lit_gpt.errors import UserError


def test_an_interrupt_ends_the_reading_of_texts() -> None:
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for read in range(1, 1001):
            if read == 3:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
            yield f"text number {read}"

    with pytest.raises(KeyboardInterrupt):
        interruptible(BPE(vocab_size=300).train, texts())
    assert read < 100  # else the library would have gone on to the end


def test_a_fault_in_the_texts_is_the_one_that_is_told() -> None:
    def texts() -> Iterator[str]:
        yield "some text"
        raise UserError("the file is damaged")

    with pytest.raises(UserError, match="^the file is damaged$"):
        interruptible(BPE(vocab_size=300).train, texts())
