"""Text written by the net as it learns. Knows the Writer and the loggers; does not touch the run's random state."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lit_gpt.generate.writer import Writer
from lit_gpt.train.hooks import Lean


class SampleText(Lean):
    """Writes a sample into TensorBoard at each validation.

    Args:
        prompt: What the text goes on from; empty for the start of a document.
        max_new_tokens: Tokens of a sample.
        temperature: 0 takes the likeliest token.
        top_k: Draw among so many likeliest tokens; None for all.
        seed: Of the draws; the same at each validation.
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
        with pl_module.tally.paused():  # type: ignore[operator,union-attr]
            text = self.write(trainer, pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                # four spaces keep the text's own lines and spaces in TensorBoard's Markdown
                shown = "".join(f"    {line}\n" for line in text.splitlines())
                logger.experiment.add_text("sample", shown, trainer.global_step)

    def write(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """One sample, prompt included."""
        tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        return self.prompt + Writer(pl_module.net, tokenizer).write(  # type: ignore[arg-type]
            self.prompt,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            seed=self.seed,
        )
