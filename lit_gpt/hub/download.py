"""Download of a model from the Hugging Face hub: config, safetensors and tokenizer, never code or pickle."""

import re
from pathlib import Path

from lit_gpt.errors import UserError

WANTED = (
    "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "added_tokens.json",
    "chat_template.jinja", "additional_chat_templates/*.jinja",
)  # fmt: skip
# Copies of the weights for other programs, in folders that the pattern of the weights would match.
UNWANTED = ("model*/*",)
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def is_hub_name(name: str) -> bool:
    """Whether the name can be that of a model on the hub, such as `gpt2` or `meta-llama/Llama-3.2-1B`."""
    return _NAME.fullmatch(name) is not None


def download(name: str, revision: str | None = None) -> Path:
    """Download a model into the cache of the hub; return its folder.

    Args:
        name: Such as `gpt2` or `Qwen/Qwen3-0.6B`.
        revision: Branch, tag or commit; None for the newest.

    Raises:
        UserError: The model does not exist, is not accessible, or the network is not.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED))
        )
    except errors.GatedRepoError:
        raise UserError(
            f"{name} asks for its license to be accepted on the hub first; do so, then log in with `hf auth login`"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        what = f"{name} at revision {revision}" if revision else name
        raise UserError(f"there is no folder {name}, and the hub has no model {what} that you may read") from None
    except Exception as fault:  # the errors of the network library differ between versions of huggingface_hub
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0][:120]
        raise UserError(
            f"there is no folder {name}, and the hub cannot be reached ({reason}); give a folder, or try again later"
        ) from None
