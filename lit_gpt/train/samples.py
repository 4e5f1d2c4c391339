"""Sample text generated during training and logged, without touching the random state of the run."""

from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lit_gpt import signals
from lit_gpt.data.corpus.recipe import VAL
from lit_gpt.data.module import TokenData
from lit_gpt.generate.text_generator import TextGenerator
from lit_gpt.train.lean_callback import LeanCallback

_TRIED = 100  # records that are searched for one that fits the context


class SampleText(LeanCallback):
    """Logs a generated text to TensorBoard at each validation.

    Args:
        prompt: Prompt of the sample; empty for the start of a document, or for the question of the first validation
            record where only answers are trained on.
        max_new_tokens: Tokens of a sample.
        temperature: Sampling temperature; 0 for greedy decoding.
        top_k: Sample among the k most likely tokens; None for all.
        seed: Seed of the sampling, the same at each validation.
    """

    def __init__(
        self,
        prompt: str = "",
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = 50,
        seed: int = 1,
    ) -> None:
        self.prompt, self.max_new_tokens = prompt, max_new_tokens
        self.temperature, self.top_k, self.seed = temperature, top_k, seed

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        with pl_module.accumulators.paused():  # type: ignore[operator,union-attr]
            text = self.generate(trainer, pl_module)
        if signals.waiting() is not None:
            return  # generation was interrupted
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                # four spaces make a code block of TensorBoard's Markdown, which keeps lines and spaces
                shown = "".join(f"    {line}\n" for line in text.splitlines())
                logger.experiment.add_text("sample", shown, trainer.global_step)

    def generate(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Generate one sample, prompt included; with a loss mask, the answer to a validation record."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        format = data.format if isinstance(data, TokenData) else None
        read = [] if self.prompt or format is None else question(data)
        generator = TextGenerator(pl_module.net, data.tokenizer, format)  # type: ignore[arg-type]
        text = ""
        for piece in generator.stream(
            read or self.prompt,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            seed=self.seed,
        ):
            text += piece
            if signals.waiting() is not None:
                break
        return (data.tokenizer.decode(read) if read else self.prompt) + text


def question(data: TokenData) -> list[int]:
    """The masked tokens before the answer of the first validation record; none without a loss mask."""
    corpus = data.corpus(VAL)
    for number in range(min(corpus.documents, _TRIED) if corpus.loss_mask is not None else 0):
        assert corpus.loss_mask is not None
        ids, start = corpus.document(number), int(corpus.offsets[number])
        read = int(np.argmax(corpus.loss_mask[start : start + len(ids)]))
        if 0 < read < data.context:
            return [int(id) for id in ids[:read]]
    return []
