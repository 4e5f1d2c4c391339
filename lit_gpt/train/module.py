"""LitGPT: a net, what it learns and how, as a LightningModule.

Knows objective, optimizer, schedule and metrics; does not know files, the bar or the table (see the callbacks).
"""

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
    """A GPT with what it learns and how.

    Args:
        net: The net.
        objective: What is learned.
        optimizer: Called with the parameter groups; fused where it can be.
        schedule: Called with the optimizer and the number of optimizer steps of the run.
        param_groups: Settings by parameters: a kind (matrices, embeddings, vectors) or a glob over names such as
            `net.blocks.0.*`, to `lr` (a factor on the optimizer's) and `weight_decay`. Laid over the default, which
            decays matrices alone; `{embeddings: {weight_decay: 0.1}}` decays the embeddings as well.
        init_from: A checkpoint, run directory or imported model whose weights the net starts from.
        compile: Compile the net before training.
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
            # would copy and pickle the net itself. Not for the loggers: the run's config.yaml shows it better.
            self.save_hyperparameters(logger=False)
        self.net = net
        self.objective = unwrap(objective)(net.sizes)
        self.new_optimizer, self.new_schedule = unwrap(optimizer), unwrap(schedule)
        self.param_groups, self.compile_net = param_groups, compile
        self.config: dict[str, Any] | None = None
        self.accumulators: Accumulators | None = None
        # Metrics of each validation split, in a tuple, which no module looks into: a copy of the module made before the
        # first validation (an average of its weights) has the same buffers as the module after it.
        self._scores: tuple[nn.ModuleDict, ...] = ()
        self._scored: Any = None  # which splits of which data they are of
        self._restored: dict[str, float] | None = None
        self._settings: list[dict[str, Any]] = []
        self._nominal = 0.0
        self._window_trains = False  # whether a batch of the accumulation window was trained on so far
        # What `lit-gpt export` writes where several families fit.
        self.origin = None if init_from is None else start_from(net, init_from)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning writes this name some fifty times a step, and nn.Module's own way costs 2 us each.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # For copies and pickles: without trainer and data, which the metrics of a validation belong to.
        return {**super().__getstate__(), "_scores": (), "_scored": None}

    # -- training ------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        self._restored = None  # a checkpoint that was validated is not gone on from

    def on_fit_start(self) -> None:
        # Lightning itself takes bf16-mixed instead and only warns.
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
        """Steps, unless all batches of the accumulation window are skipped: then weights and moments stay as they are.

        Skipped batches are empty and their gradient is zero, but decay and momentum would move the weights even so.
        """
        if self._window_trains or not self._skips_batch:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            assert optimizer_closure is not None and self.accumulators is not None
            optimizer_closure()
            self.accumulators.close_window()
        self._window_trains = False

    def _nominal_count(self, batch: Any) -> float:
        """What a micro-batch's sum is divided by at once; the true count takes its place at the optimizer step.

        It only keeps 16-bit gradients in range. A power of two, the same on all ranks, drops out without rounding.
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
        """Called once per optimizer step. Lightning's own refuses bf16-mixed with a fused optimizer."""
        trainer, accumulators = self.trainer, self.accumulators
        assert accumulators is not None
        # Lightning has divided by the planned number of micro-batches, DDP by the ranks: undone here, so that the last,
        # shorter window of an epoch and unequal counts weigh what they should.
        planned = self._nominal * trainer.accumulate_grad_batches * trainer.world_size
        divisor = accumulators.close_window() / planned
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        loss_scale = scaler._get_scale_async() if scaler is not None and takes_scale(optimizer) else None
        by_value = gradient_clip_algorithm == GradClipAlgorithmType.VALUE
        norm, skip = finish_gradients(optimizer, divisor, gradient_clip_val, by_value, loss_scale)
        # An overflow under a GradScaler is its daily business: it skips the step and lowers its factor.
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
        """Optimizer steps of the run. Lightning's own estimate builds the loaders early, with their side effects."""
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
        """Optimizer steps at the end of so many epochs; those before a resume may have had batches of another size."""
        trainer = self.trainer
        step = trainer.global_step
        an_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        if not step or not isinstance(trainer.datamodule, TokenData):  # type: ignore[attr-defined]
            return epochs * an_epoch
        epoch, done = batches_done(trainer.datamodule)  # type: ignore[attr-defined]
        rest = math.ceil((batches - done) / trainer.accumulate_grad_batches)
        return step + max(0, (epochs - epoch - 1) * an_epoch + rest) if epoch < epochs else step

    def _apply_own_settings(self) -> None:
        """After a resume the optimizer's settings come from the user, not from the checkpoint, as the schedule's do."""
        optimizers = self.trainer.optimizers
        if len(optimizers) != 1 or len(optimizers[0].param_groups) != len(self._settings):
            return
        for group, settings in zip(optimizers[0].param_groups, self._settings, strict=True):
            group.update({k: v for k, v in settings.items() if k not in ("lr", "initial_lr")})
        schedule = self.trainer.lr_scheduler_configs[0].scheduler
        if isinstance(schedule, Schedule):
            schedule.steps = self.total_steps()  # of epochs, it was not known before the position was restored
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
        if self._scored != scored:  # lengths of tokens and of texts differ from data to data
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
            # Not lossless: the text's own bytes, which are those of the whole split and of no part of it.
            if trainer.limit_val_batches != 1.0 or trainer.limit_test_batches != 1.0:
                return None
            markers = {tokenizer.bos, tokenizer.eos, tokenizer.pad}
            lengths = [int(i not in markers) for i in range(tokenizer.vocab_size)]
            text_bytes = data.bytes_scored("test" if trainer.testing else name)
        lengths = lengths + [0] * (self.net.vocab_size - len(lengths))
        return BitsPerByte(lengths, text_bytes, wide=widest_float(self.device))

    def _log_scores(self, prefix: str, attribute: str) -> None:
        # In a fit StepMetrics writes them to the loggers, with the step that they belong to. Outside of it Lightning
        # returns nothing from validate() that was not meant for a logger, and warns where there is none.
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
            self.double()  # Lightning does it after loading, and the weights would go through float32
        self.origin = saved.origin

    def continue_from(self, accumulators: dict[str, float] | None) -> None:
        """Has the next fit continue the sums of an earlier one: a `Accumulators.state`, None to begin at zero."""
        self._restored = accumulators

    # -- cheaper than Lightning's own ----------------------------------------------------------------------------

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any) -> None:
        scheduler.step()

    def _sum_over_ranks(self, tensor: Tensor) -> Tensor:
        # Not strategy.reduce, which waits for all ranks, and so for the device, beforehand.
        torch.distributed.all_reduce(tensor)
        return tensor


def _limited(batches: int, limit: int | float | None) -> int:
    """Lightning's meaning of limit_*_batches: an integer is a number, a float a share."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _plain(configuration: Any) -> Any:
    """Plain data alone: what `torch.load(weights_only=True)` reads back."""
    return json.loads(json.dumps(configuration, default=str))


def _without_base(config: dict[str, Any]) -> dict[str, Any]:
    """The config as a checkpoint keeps it: the base of a fine-tuned net may be gone when it is loaded."""
    model = config.get("model")
    return config if not isinstance(model, dict) else config | {"model": model | {"init_from": None}}
