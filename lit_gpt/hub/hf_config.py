"""Typed reading of a Hugging Face config.json, in which every field that is not understood is an error."""

from typing import Any

from lit_gpt.errors import UserError

# Fields without effect on what a net computes: names and versions, how outputs are wrapped, ids that the tokenizer's
# own files give, initialization, and dropout, which is an option of each training run (`model.net.dropout`).
_WITHOUT_EFFECT = frozenset(
    """
    architectures model_type torch_dtype dtype transformers_version _name_or_path name_or_path auto_map use_cache
    attn_implementation _attn_implementation _attn_implementation_autoset return_dict output_attentions
    output_hidden_states bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id
    initializer_range embd_pdrop resid_pdrop attn_pdrop attention_dropout hidden_dropout dropout residual_dropout
    embedding_dropout classifier_dropout layerdrop id2label label2id num_labels problem_type task_specific_params
    finetuning_task torchscript use_bfloat16 gradient_checkpointing tokenizer_class prefix pretraining_tp
    summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id
    remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens tf_legacy_loss
    output_router_logits cache_implementation hidden_dropout_prob keys_to_ignore_at_inference output_past
    predict_special_tokens tokenizer_name is_llama_config transformers.js_config
    """.split()
)
# HFConfig of every config whose other values would make it another net.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "cross_attention_hidden_size": (None,),
    "chunk_size_feed_forward": (0,),
    "pruned_heads": ({}, None),
    "tie_encoder_decoder": (False,),
    "is_decoder": (False, True),
    "n_special": (0,),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
}
REQUIRED = object()


class HFConfig:
    """The fields of one config.json.

    Each reader marks its field as understood, and raises UserError where the field is missing without a default or its
    value is of another type; `finish` raises for the fields that no reader has asked for.

    Args:
        values: The parsed file.
        where: The file, for messages.
    """

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.where = where
        self._values = values
        self._taken: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the file has the field, even if it is null."""
        return name in self._values

    def take(self, name: str, default: Any = REQUIRED) -> Any:
        """The value of a field, null included."""
        self._taken.add(name)
        if name in self._values:
            return self._values[name]
        if default is REQUIRED:
            raise UserError(f"{self.where} lacks {name}; it is not complete")
        return default

    def integer(self, name: str, default: Any = REQUIRED) -> int:
        """A whole number above 0."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{self.where}: {name} must be a whole number above 0, got {value!r}")
        return value

    def optional(self, name: str, default: int | None = None) -> int | None:
        """A whole number above 0, or null."""
        return None if self.take(name, default) is None else self.integer(name, default)

    def either(self, *names: str, default: int) -> int:
        """A whole number above 0 under one of several names, or the same under several."""
        given = {name: self.integer(name) for name in names if self.has(name)}
        if len(set(given.values())) > 1:
            raise UserError(f"{self.where} contradicts itself: {', '.join(f'{k} is {v}' for k, v in given.items())}")
        return next(iter(given.values()), default)

    def number(self, name: str, default: Any = REQUIRED) -> float:
        """A finite number."""
        value = self.take(name, default)
        if not _is_number(value):
            raise UserError(f"{self.where}: {name} must be a number, got {value!r}")
        return float(value)

    def positive(self, name: str, default: Any = REQUIRED) -> float:
        """A finite number above 0."""
        value = self.number(name, default)
        if value <= 0:
            raise UserError(f"{self.where}: {name} must be above 0, got {value:g}")
        return value

    def bound(self, name: str, default: float | None) -> float | None:
        """A finite number above 0, or null."""
        return None if self.take(name, default) is None else self.positive(name, default)

    def maybe(self, name: str) -> float | None:
        """A finite number, or null or missing."""
        return None if self.take(name, None) is None else self.number(name)

    def numbers(self, name: str) -> list[float]:
        """A list of finite numbers."""
        values = self.take(name)
        if not isinstance(values, list) or not all(map(_is_number, values)):
            raise UserError(f"{self.where}: {name} must be a list of numbers, got {str(values)[:60]}")
        return values

    def flag(self, name: str, default: Any = REQUIRED) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.where}: {name} must be true or false, got {value!r}")
        return value

    def must(self, name: str, *allowed: Any) -> Any:
        """A field that may have these values only; the first is the default."""
        value = self.take(name, allowed[0])
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
            raise self.refusal(name, value, " or ".join(dict.fromkeys(map(repr, allowed))))
        return value

    def refusal(self, name: str, value: Any, instead: str) -> UserError:
        """The error for a value that GPT cannot represent."""
        return UserError(f"{self.where}: {name} is {value!r}, which cannot be represented here; only {instead} can")

    def inner(self, name: str) -> "HFConfig":
        """The fields of a nested object, to be finished separately."""
        value = self.take(name)
        if not isinstance(value, dict):
            raise UserError(f"{self.where}: {name} must be an object, got {value!r}")
        return HFConfig(value, f"{self.where}, {name}")

    def finish(self, ignored: tuple[str, ...] = ()) -> None:
        """Check that all fields are understood.

        Args:
            ignored: Fields of this family that do not change what the net computes, whatever their values.

        Raises:
            UserError: A field is left that might change it.
        """
        for name, allowed in _HARMLESS.items():
            if name in self._values:
                self.must(name, *allowed)
        unknown = self._values.keys() - self._taken - _WITHOUT_EFFECT - set(ignored)
        unknown = {name for name in unknown if not name.startswith("_")}
        if unknown:
            told = ", ".join(f"{name} ({self._values[name]!r})"[:80] for name in sorted(unknown)[:4])
            more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
            raise UserError(
                f"{self.where} has fields that are not understood; the net might compute something else: {told}{more}"
            )


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and value - value == 0
