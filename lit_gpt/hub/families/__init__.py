"""Registry of the model families by the architecture in config.json; each is imported on first use."""

import difflib
import re
from importlib import import_module
from typing import Any

from lit_gpt.errors import UserError
from lit_gpt.hub.families.family import Family

# Of several that can represent a net the first is exported, unless the net was imported from another one.
_CLASS_PATHS = {
    "LlamaForCausalLM": "llama.LlamaFamily",
    "GPT2LMHeadModel": "gpt2.GPT2Family",
    "GPTNeoXForCausalLM": "gpt_neox.GPTNeoXFamily",
    "MistralForCausalLM": "mistral.MistralFamily",
    "MixtralForCausalLM": "mixtral.MixtralFamily",
    "Qwen2ForCausalLM": "qwen2.Qwen2Family",
    "Qwen3ForCausalLM": "qwen3.Qwen3Family",
    "Qwen3MoeForCausalLM": "qwen3_moe.Qwen3MoEFamily",
    "Gemma2ForCausalLM": "gemma2.Gemma2Family",
    "Gemma3ForCausalLM": "gemma3.Gemma3Family",
    "Olmo2ForCausalLM": "olmo2.Olmo2Family",
    "Phi3ForCausalLM": "phi3.Phi3Family",
    "BloomForCausalLM": "bloom.BloomFamily",
    "MptForCausalLM": "mpt.MPTFamily",
    "Starcoder2ForCausalLM": "starcoder2.StarCoder2Family",
    "SmolLM3ForCausalLM": "smollm3.SmolLM3Family",
}
ARCHITECTURES = tuple(_CLASS_PATHS)
# Names of classes that came with the weights, before transformers had them.
_OLDER = {"MPTForCausalLM": "MptForCausalLM"}


def family_of(architecture: str) -> Family:
    """The family of an architecture.

    Raises:
        UserError: It is not supported.
    """
    if architecture not in _CLASS_PATHS:
        by_stem = {_stem(name): name for name in _CLASS_PATHS}
        near = difflib.get_close_matches(_stem(architecture), by_stem, 1, 0.7)
        hint = f"; did you mean {by_stem[near[0]]}?" if near else ""
        raise UserError(f"architecture {architecture} is not among those supported: {', '.join(_CLASS_PATHS)}{hint}")
    module, _, name = _CLASS_PATHS[architecture].partition(".")
    found: Family = getattr(import_module(f"lit_gpt.hub.families.{module}"), name)()
    return found


def _stem(architecture: str) -> str:
    """The distinctive part of a name: `llama` of LlamaForCausalLM, `qwen3moe` of qwen3_moe."""
    return re.sub(r"(ForCausal|LMHead).*|[\W_]", "", architecture).lower()


def recognize(config: dict[str, Any], where: str) -> Family:
    """The family of a config.json.

    Raises:
        UserError: It names no architecture, or one that is not supported.
    """
    named = config.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise UserError(f"{where} names no architecture (architectures: {named!r}); a causal language model is wanted")
    name = _OLDER.get(named[0], named[0])
    if name not in _CLASS_PATHS:
        raise UserError(f"{where}: architecture {name} is not supported; supported are {', '.join(_CLASS_PATHS)}")
    if "quantization_config" in config or "quantization" in config:
        raise UserError(f"{where}: its weights are quantized; import a version in bf16, fp16 or fp32")
    family = family_of(name)
    if config.get("model_type", family.model_type) != family.model_type:
        raise UserError(
            f"{where}: model_type is {config['model_type']!r}, but {name} goes with {family.model_type!r}; "
            "fix the one that is wrong"
        )
    return family
