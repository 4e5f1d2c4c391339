"""Base class of the model families: name in config.json, mapping of weights, reader and writer of its fields."""

from typing import Any, ClassVar

from lit_gpt.errors import not_implemented
from lit_gpt.hub.hf_config import REQUIRED, HFConfig
from lit_gpt.hub.net_config import complete
from lit_gpt.hub.weights import WeightMapping


class Family:
    """Base of the families; subclasses define `parse` and its inverse `write`.

    Attributes:
        architecture: Name in ``architectures`` of config.json, which identifies the family.
        model_type: Name in ``model_type`` of config.json.
        table: Mappings of weights, which serve import and export.
        prefix: Prefix of most tensor names, missing in folders of the bare transformer.
        unused: Regular expressions of tensors that hold no weights, such as causal masks of older folders.
        ignored: Fields of config.json that do not change what the net computes, whatever their values.
    """

    architecture: ClassVar[str]
    model_type: ClassVar[str]
    table: ClassVar[tuple[WeightMapping, ...]]
    prefix: ClassVar[str] = "model."
    unused: ClassVar[tuple[str, ...]] = (r".*rotary_emb\.inv_freq",)
    ignored: ClassVar[tuple[str, ...]] = ()

    def read(self, config: HFConfig) -> dict[str, Any]:
        """All arguments of GPT from a config.json.

        Raises:
            UserError: A field is unknown, or has a value that GPT cannot represent.
        """
        arguments = self.parse(config)
        config.finish(self.ignored)
        return complete(arguments)

    def parse(self, config: HFConfig) -> dict[str, Any]:
        """Arguments of GPT from the fields of a config.json; those not returned have GPT's defaults."""
        raise not_implemented(self, "parse")

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """The fields of config.json that `parse` reads; the exporter reads them again to see that they mean this net.

        Args:
            net: Of `net_config.layers`. Components may be of any class; arguments that a class lacks are None.
        """
        raise not_implemented(self, "write")


def read_sizes(config: HFConfig, names: dict[str, str], tie: bool, **defaults: int) -> dict[str, Any]:
    """Sizes of a net from config.json, and whether the embedding is tied to the head.

    Args:
        config: The whole config.json.
        names: Field of each argument of GPT.
        tie: Default of tie_word_embeddings.
        defaults: Of arguments whose field may be missing.
    """
    sizes = {ours: config.integer(field, defaults.get(ours, REQUIRED)) for ours, field in names.items()}
    return sizes | {"tie_embeddings": config.flag("tie_word_embeddings", tie)}


def write_sizes(net: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The fields that `read_sizes` reads."""
    return {field: net[ours] for ours, field in names.items()} | {"tie_word_embeddings": net["tie_embeddings"]}
