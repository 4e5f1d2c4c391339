"""The registry of components: brings in their classes, so that a config can name each by its short name.

A component is an argument whose default is a class (see `schema.default_classes`): an argument of GPT, TokenData or
LitGPT is one by its signature alone. A class fills it by deriving from its base and being listed in its package.
"""

from importlib import import_module

_PACKAGES = ("lit_gpt.nn", "lit_gpt.data")  # others are imported with the class whose arguments they fill

#: Arguments of a net that do not change what its weights mean: a run that starts from a checkpoint may set them, and
#: two nets that differ in nothing else are one. The second are those of any component.
FREE_ARGUMENTS = ("dropout", "activation_checkpointing", "seed", "init")
FREE_COMPONENT_ARGUMENTS = ("dropout", "aux_loss_coef", "z_loss_coef", "pooled")


def import_components() -> None:
    """Imports all classes that a config can name by their short names."""
    for name in _PACKAGES:
        package = import_module(name)
        for public in getattr(package, "__all__", ()):
            if public != "TokenData":  # fills no component, and brings lightning
                getattr(package, public)
