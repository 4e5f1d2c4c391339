"""What a family of models says of itself: its name in config.json, its fields, its tensors.

Knows no family; `lit_gpt.hub.families` lists them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lit_gpt.errors import not_implemented
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.weights import WeightMapping


class Family:
    """Base of the families.

    `read` is the one place that says what a config.json means. `write` is its inverse as far as it goes: whether the
    config that it wrote means the same net is found out by reading it again.

    Attributes:
        architecture: The name in config.json's ``architectures``, by which a family is recognized.
        model_type: The name in config.json's ``model_type``.
        table: Which tensors are which.
        prefix: What stands ahead of most tensors' names, and is left out by folders of the bare transformer.
        unused: Regular expressions of tensors' names that older folders have and that hold no weights.
    """

    architecture: ClassVar[str]
    model_type: ClassVar[str]
    table: ClassVar[tuple[WeightMapping, ...]]
    prefix: ClassVar[str] = "model."
    unused: ClassVar[tuple[str, ...]] = (r".*rotary_emb\.inv_freq",)

    def read(self, config: HFConfig) -> dict[str, Any]:
        """GPT's arguments from the fields of a config.json; what is left out is at GPT's default.

        Raises:
            UserError: A field has a value that cannot be represented, or is not understood.
        """
        raise not_implemented(self, "read")

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """The fields of a config.json from `lit_gpt.hub.net_config.layers`, all that `read` looks at.

        Args:
            net: Its components may be of any class; an argument that a component does not have is None (`Arguments`).
        """
        raise not_implemented(self, "write")
