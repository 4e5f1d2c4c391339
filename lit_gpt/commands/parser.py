"""The argument parser that the commands share: its mistakes are one line. No command itself."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from lit_gpt.config import user_paths
from lit_gpt.config.yaml_files import nearest
from lit_gpt.errors import UserError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are one line, with the nearest option for one that is not there.

    In arguments that are paths, `~` is the home folder.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, rest = super().parse_known_args(args, namespace)
        return argparse.Namespace(**user_paths.in_values(vars(found))), rest

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        near = nearest(unknown, self._option_string_actions) if unknown.startswith("--") else None
        raise UserError(f"{message}; did you mean {near}?" if near else f"{message}; see {self.prog} --help")
