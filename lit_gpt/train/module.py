"""LitGPT, the LightningModule: training and validation steps, gradient accumulation and clipping, optimizers."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from lit_gpt.checkpoint import Checkpoint, write_fields
from lit_gpt.config.factories import unwrap
from lit_gpt.data.fingerprints import fingerprints
from lit_gpt.data.module import TokenData
from lit_gpt.data.training import batches_done
from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.nn import Sizes
from lit_gpt.train.accumulators import Accumulators, widest_float
from lit_gpt.train.gradients import finish_gradients, takes_scale
from lit_gpt.train.init_from import start_from
from lit_gpt.train.metrics import BitsPerByte, Perplexity, TokenAccuracy, TokenLoss
from lit_gpt.train.objectives import NextToken, Objective
from lit_gpt.train.optimizers import apply_factors, parameter_groups, prefer_fused
from lit_gpt.train.schedules import Schedule, WarmupCosine


class LitGPT(lightning.LightningModule):
    """A GPT with its training objective, optimizer and learning rate schedule.

    Args:
        net: The net.
        objective: Training objective.
        optimizer: Called with the parameter groups; fused where possible.
        schedule: Learning rate schedule, called with the optimizer and the number of optimizer steps of the run.
        param_groups: Options by parameters: a kind (matrices, embeddings, vectors) or a glob over names such as
            `net.blocks.0.*`, to `lr` (a factor on the learning rate) and `weight_decay`. By default only matrices are
            decayed; `{embeddings: {weight_decay: 0.1}}` decays the embeddings as well.
        init_from: Checkpoint, run directory or imported model with the initial weights.
        compile: Compile the net with torch.compile before training.
    """

    def __init__(
        self,
        net: GPT,
        objective: Callable[[Sizes], Objective] = NextToken,
        optimizer: Callable[[Iterable], Optimizer] = AdamW,
        schedule: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
        param_groups: dict[str, dict[str, float]] | None = None,
        init_from: str | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if _given_hyperparameters.get() is not None:
            # Built from a config: plain data, which rebuilds the module under weights_only=True. Without one Lightning
            # would pickle the net itself. Not for the loggers: the run's config.yaml shows it better.
            self.save_hyperparameters(logger=False)
        self.net = net
        self.objective = unwrap(objective)(net.sizes)
        self.new_optimizer, self.new_schedule = unwrap(optimizer), unwrap(schedule)
        self.param_groups, self.compile_net = param_groups, compile
        self.config: dict[str, Any] | None = None
        self.accumulators: Accumulators | None = None
        # Metrics of each validation split, in a tuple, so that they are no submodules: a copy of the module before the
        # first validation (an exponential moving average of the weights) has the same buffers as the module after it.
        self._scores: tuple[nn.ModuleDict, ...] = ()
        self._scored: Any = None  # splits and data that they belong to
        self._restored: dict[str, float] | None = None
        self._settings: list[dict[str, Any]] = []
        self._nominal = 0.0
        self._window_trains = False  # whether any batch of the accumulation window was not skipped
        # The family that `lit-gpt export` prefers.
        self.origin = None if init_from is None else start_from(net, init_from)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets this some fifty times a step, and nn.Module's own __setattr__ takes 2 us each.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles have no metrics, which refer to trainer and data.
        return {**super().__getstate__(), "_scores": (), "_scored": None}

    # -- training ------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        self._restored = None  # validating a checkpoint is not resuming from it

    def on_fit_start(self) -> None:
        # Lightning uses bf16-mixed instead and only warns.
        asked = ((self.config or {}).get("trainer") or {}).get("precision")
        if self.device.type == "cpu" and asked in ("16-mixed", "16", 16):
            raise UserError("precision 16-mixed needs a GPU; on a CPU give 32-true, or bf16-mixed where it is fast")
        reduce = self._sum_over_ranks if self.trainer.world_size > 1 else None
        self.accumulators = Accumulators(self.device, reduce)
        if self._restored is not None:
            self.accumulators.restore(self._restored, self.trainer.is_global_zero)
        self._nominal = 0.0
        if self.compile_net and self.net._compiled_call_impl is None:
            self.net.compile()

    def on_train_start(self) -> None:
        self._apply_own_settings()
        assert self.accumulators is not None
        self.accumulators.begin()  # Lightning calls this hook last, after the callbacks'

    def training_step(self, batch: Any) -> Tensor:
        (total, count), parts = self.objective(self.net, batch)
        assert self.accumulators is not None
        self._window_trains |= not self._skips_batch
        self.accumulators.add(total - parts["aux"] if "aux" in parts else total, count)
        if not self._nominal:
            self._nominal = self._nominal_count(batch)
        return total / self._nominal

    @property
    def _skips_batch(self) -> bool:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        return isinstance(data, TokenData) and bool(data.skip) and data.next_batch in data.skip

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Step, unless all batches of the gradient accumulation window are skipped.

        The gradient of skipped batches is zero, but weight decay and momentum would change the weights.
        """
        if self._window_trains or not self._skips_batch:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            assert optimizer_closure is not None and self.accumulators is not None
            optimizer_closure()
            self.accumulators.close_window()
        self._window_trains = False

    def _nominal_count(self, batch: Any) -> float:
        """Divisor of a micro-batch's loss, replaced by the true token count at the optimizer step.

        It keeps 16-bit gradients in range. A power of two, the same on all ranks, cancels without rounding.
        """
        tokens = batch.targets.numel()
        if self.trainer.world_size > 1:
            tokens = int(self.trainer.strategy.reduce(torch.tensor(tokens, device=self.device), reduce_op="max"))
        return 2.0 ** math.ceil(math.log2(tokens))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Average and clip the gradients; Lightning's own refuses bf16-mixed with a fused optimizer."""
        trainer, accumulators = self.trainer, self.accumulators
        assert accumulators is not None
        # Lightning has divided by the number of micro-batches, DDP by the ranks. Undone here, so that each token has
        # the same weight in a shorter last window of an epoch and with unequal counts.
        planned = self._nominal * trainer.accumulate_grad_batches * trainer.world_size
        divisor = accumulators.close_window() / planned
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        loss_scale = scaler._get_scale_async() if scaler is not None and takes_scale(optimizer) else None
        by_value = gradient_clip_algorithm == GradClipAlgorithmType.VALUE
        norm, skip = finish_gradients(optimizer, divisor, gradient_clip_val, by_value, loss_scale)
        # A GradScaler handles an overflow: it skips the step and lowers its factor.
        first = optimizer.param_groups[0]
        accumulators.lr = first["lr"] / (first.get("lr_factor") or 1.0)  # before the factor of its parameter group
        accumulators.close_step(norm, torch.zeros_like(skip) if scaler is not None else skip)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.new_optimizer(parameter_groups(self, self.param_groups))
        apply_factors(optimizer)
        prefer_fused(optimizer)
        self._settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        schedule = self.new_schedule(optimizer, self.total_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def total_steps(self) -> int:
        """Optimizer steps of the run; Lightning's own estimate builds the dataloaders early, with side effects."""
        trainer = self.trainer
        limits = [trainer.max_steps] if trainer.max_steps not in (None, -1) else []
        if trainer.max_epochs not in (None, -1):
            batches_per_epoch = getattr(trainer.datamodule, "batches_per_epoch", None)  # type: ignore[attr-defined]
            if batches_per_epoch is not None:
                batches = int(batches_per_epoch(trainer.world_size))
                batches = _limited(batches, trainer.limit_train_batches)
                limits.append(self._steps_of_epochs(trainer.max_epochs, batches))
        if not limits:
            raise UserError("the schedule needs the length of the run: give trainer.max_steps or trainer.max_epochs")
        return max(1, min(limits))

    def _steps_of_epochs(self, epochs: int, batches: int) -> int:
        """Optimizer steps at the end of `epochs`; before a resume the batch size may have been another."""
        trainer = self.trainer
        step = trainer.global_step
        an_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        if not step or not isinstance(trainer.datamodule, TokenData):  # type: ignore[attr-defined]
            return epochs * an_epoch
        epoch, done = batches_done(trainer.datamodule)  # type: ignore[attr-defined]
        rest = math.ceil((batches - done) / trainer.accumulate_grad_batches)
        return step + max(0, (epochs - epoch - 1) * an_epoch + rest) if epoch < epochs else step

    def _apply_own_settings(self) -> None:
        """After a resume take the options of optimizer and schedule from the config, not from the checkpoint."""
        optimizers = self.trainer.optimizers
        if len(optimizers) != 1 or len(optimizers[0].param_groups) != len(self._settings):
            return
        for group, settings in zip(optimizers[0].param_groups, self._settings, strict=True):
            group.update({k: v for k, v in settings.items() if k not in ("lr", "initial_lr")})
        schedule = self.trainer.lr_scheduler_configs[0].scheduler
        if isinstance(schedule, Schedule):
            schedule.steps = self.total_steps()  # known only after the data position is restored
            schedule.refresh([settings["lr"] for settings in self._settings])

    # -- validation and test -------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        self._start_scores("val_names")

    def on_test_start(self) -> None:
        self._start_scores("test_names")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        scores = self.objective.evaluate(self.net, batch)
        for metric in self._scores_of(dataloader_idx).values():
            metric.update(scores)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val", "val_names")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test", "test_names")

    def _split_names(self, attribute: str) -> list[str]:
        return list(getattr(self.trainer.datamodule, attribute, None) or [""])  # type: ignore[attr-defined]

    def _start_scores(self, attribute: str) -> None:
        names = self._split_names(attribute)
        scored = (self.trainer.datamodule, attribute, names, self.device)  # type: ignore[attr-defined]
        if self._scored != scored:  # byte lengths depend on the data
            self._scored = scored
            new, wide = [], widest_float(self.device)
            for name in names:
                metrics = {"loss": TokenLoss(wide), "perplexity": Perplexity(wide), "accuracy": TokenAccuracy(wide)}
                if (bits := self._bits_per_byte(name)) is not None:
                    metrics["bpb"] = bits
                new.append(nn.ModuleDict(metrics).to(self.device))
            self._scores = tuple(new)
        for index in range(len(self._scores)):
            for metric in self._scores_of(index).values():
                metric.reset()

    def _scores_of(self, index: int) -> dict[str, Metric]:
        return dict(self._scores[index].items())  # type: ignore[arg-type]

    def _bits_per_byte(self, name: str) -> BitsPerByte | None:
        trainer = self.trainer
        data = trainer.datamodule  # type: ignore[attr-defined]
        tokenizer = getattr(data, "tokenizer", None)
        if tokenizer is None:
            return None
        lengths, text_bytes = tokenizer.byte_lengths(), None
        if lengths is None:
            # Not lossless: the bytes of the text, which are known for the whole split alone.
            if trainer.limit_val_batches != 1.0 or trainer.limit_test_batches != 1.0:
                return None
            markers = {tokenizer.bos, tokenizer.eos, tokenizer.pad}
            lengths = [int(i not in markers) for i in range(tokenizer.vocab_size)]
            text_bytes = data.sequences("test" if trainer.testing else name or "val").scored_bytes(tokenizer)
        lengths = lengths + [0] * (self.net.vocab_size - len(lengths))
        return BitsPerByte(lengths, text_bytes, wide=widest_float(self.device))

    def _log_scores(self, prefix: str, attribute: str) -> None:
        # In fit StepMetrics logs them with their step. Elsewhere validate() returns only what goes to a logger, and
        # Lightning warns where there is none.
        to_loggers = self.trainer.state.fn != "fit"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*no logger configured")
            for index, name in enumerate(self._split_names(attribute)):
                suffix = f"/{name}" if name else ""
                for key, metric in self._scores_of(index).items():
                    self.log(f"{prefix}_{key}{suffix}", metric.compute(), logger=to_loggers)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        data, sums = self.trainer.datamodule, self.accumulators  # type: ignore[attr-defined]
        tokenizer, from_text = getattr(data, "tokenizer", None), isinstance(data, TokenData)
        write_fields(
            checkpoint,
            accumulators=None if sums is None else sums.state(),
            tokens=None if sums is None else sums.total_tokens(),
            origin=self.origin,
            config=None if self.config is None else _without_base(self.config),
            tokenizer=None if tokenizer is None else tokenizer.state(),
            # for the manifest: which text and which ids the weights come from
            fingerprints=fingerprints(data) if from_text else None,
            format=_plain(data.format.configuration()) if from_text else None,
        )
        settings = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY)
        if settings is not None:
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = dict(settings) | {"init_from": None}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = Checkpoint.of(checkpoint)
        self.continue_from(saved.accumulators)
        if self._trainer is not None and isinstance(self._trainer.precision_plugin, DoublePrecision):
            self.double()  # Lightning does it after loading, which would round the weights to float32
        self.origin = saved.origin

    def continue_from(self, accumulators: dict[str, float] | None) -> None:
        """Let the next fit continue from an `Accumulators.state`; None to start from zero."""
        self._restored = accumulators

    # -- cheaper than Lightning's own ----------------------------------------------------------------------------

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any) -> None:
        scheduler.step()

    def _sum_over_ranks(self, tensor: Tensor) -> Tensor:
        # Not strategy.reduce, which first waits for all ranks, and so for the device.
        torch.distributed.all_reduce(tensor)
        return tensor


def _limited(batches: int, limit: int | float | None) -> int:
    """limit_*_batches as in Lightning: an integer is a number, a float a fraction."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _plain(configuration: Any) -> Any:
    """Plain data alone: what `torch.load(weights_only=True)` reads back."""
    return json.loads(json.dumps(configuration, default=str))


def _without_base(config: dict[str, Any]) -> dict[str, Any]:
    """The config for a checkpoint: without init_from, which may no longer exist when it is loaded."""
    model = config.get("model")
    return config if not isinstance(model, dict) else config | {"model": model | {"init_from": None}}
