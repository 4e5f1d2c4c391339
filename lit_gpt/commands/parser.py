"""The argument parser that the commands share, with errors of one line. Not a command."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from lit_gpt.config import user_paths
from lit_gpt.config.yaml_files import nearest
from lit_gpt.errors import UserError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with errors of one line that name the nearest option; `~` in paths is the home folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, rest = super().parse_known_args(args, namespace)
        return argparse.Namespace(**user_paths.in_values(vars(found))), rest

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        near = nearest(unknown, self._option_string_actions) if unknown.startswith("--") else None
        raise UserError(f"{message}; did you mean {near}?" if near else f"{message}; see {self.prog} --help")
