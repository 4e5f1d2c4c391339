"""The import of lit_gpt.cli, a second quicker where transformers is installed."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def import_cli() -> Any:
    """`lit_gpt.cli`, for the commands that need it: it brings torch and lightning, some four seconds."""
    gc.disable()  # what is imported stays; looking through it again and again finds nothing
    try:
        with _left_out("transformers", "matplotlib"):
            from lit_gpt import cli
    finally:
        gc.enable()
    return cli


@contextmanager
def _left_out(*packages: str) -> Iterator[None]:
    """Within it, torchmetrics does not import installed packages that only metrics and plots unused here need."""
    from lightning_utilities.core.imports import RequirementCache

    original = RequirementCache.__bool__

    def installed(self: RequirementCache) -> bool:
        return not str(self.requirement or "").startswith(packages) and original(self)

    RequirementCache.__bool__ = installed  # type: ignore[method-assign]
    try:
        yield
    finally:
        RequirementCache.__bool__ = original  # type: ignore[method-assign]
