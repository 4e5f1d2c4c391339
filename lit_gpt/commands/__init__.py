"""One file per command of `lit-gpt`: its docstring's first line is its help line, `main(argv) -> int` runs it.

A file without `main` is shared by commands.
"""
