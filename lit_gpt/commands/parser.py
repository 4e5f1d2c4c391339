"""The argument parser that the commands share: its mistakes are one line. No command itself."""

import argparse
from typing import NoReturn

from lit_gpt.errors import UserError
from lit_gpt.settings import nearest


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are one line, with the nearest option for one that is not there."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        near = nearest(unknown, self._option_string_actions) if unknown.startswith("--") else None
        raise UserError(f"{message}; did you mean {near}?" if near else f"{message}; see {self.prog} --help")
