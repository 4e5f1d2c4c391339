"""Twelve chat templates written for these tests, each with a feature that published ones have, and conversations.

Each marks the assistant's own text and the end of its turn by {% generation %}; without the marks it renders the same.
"""

import re
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "chat_templates"

CHATML = ["<|im_start|>", "<|im_end|>"]
#: Special tokens of each; those that end in ~ take in the white space behind them.
_SPECIAL: dict[str, list[str]] = {
    "trims": CHATML,
    "dated": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "alternates": ["[INST]", "[/INST]"],
    "thinks": CHATML,
    "opens": ["<|question|>", "<|answer|>", "<think>", "</think>"],
    "eats": ["<|system|>~", "<|user|>~", "<|assistant|>~", "<|tool|>~", "<|end|>~"],
    "parts": ["<turn>", "</turn>"],
    "reads": [],
    "channels": ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"],
    "spaced": [],
    "model": ["<start_of_turn>", "<end_of_turn>"],
    "joins": CHATML,
}

#: Source and special tokens by name.
TEMPLATES = {
    name: ((_FOLDER / f"{name}.jinja").read_text(encoding="utf-8"), special) for name, special in _SPECIAL.items()
}

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"place": {"type": "string"}}}}]
_CALL = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Ulm é"}}}
_USER, _ANSWER = {"role": "user", "content": " the cat sat?"}, {"role": "assistant", "content": "on the mat."}
_SYSTEM = {"role": "system", "content": "it's 1234 dogs"}
_THOUGHT = {"role": "assistant", "content": "<think>\nthe dogs\n</think>\n\n we'll see "}
_MORE = [{"role": "user", "content": "and?"}, {"role": "assistant", "content": "  they've\n\nsat  "}]
_CALLED = {"role": "assistant", "content": "the cat", "tool_calls": [_CALL]}
SHAPES: dict[str, list[dict[str, Any]]] = {
    "system": [_SYSTEM, _USER, _ANSWER, *_MORE],
    "no system": [_USER, _ANSWER, *_MORE],
    "assistant first": [_SYSTEM, _ANSWER, _USER, _MORE[1]],
    "two answers": [_USER, _ANSWER, {"role": "assistant", "content": "return x + 1"}, *_MORE],
    "tools": [_SYSTEM, _USER, _CALLED, {"role": "tool", "content": '{"sun": 1}'}, _ANSWER],
    "thinking": [_USER, _THOUGHT, {"role": "user", "content": "and?"}, {**_THOUGHT, "content": "<think>x</think>y"}],
}


def unmarked(template: str) -> str:
    """The template without its {% generation %}, which renders the same."""

    def other(tag: re.Match[str]) -> str:
        return f"{{%{tag[1]} if true {tag[3]}%}}" if tag[2] == "generation" else f"{{%{tag[1]} endif {tag[3]}%}}"

    return re.sub(r"\{%(-?)\s*(generation|endgeneration)\s*(-?)%\}", other, template)


def shaped(template: str, shape: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """A conversation and its tools, as far as the template has a place for them."""
    kept = {"role", "content"} | ({"tool_calls"} if "tool_calls" in template else set())
    messages = [{key: value for key, value in one.items() if key in kept} for one in SHAPES[shape]]
    if shape == "tools" and "[INST]" in template:  # the tool's turn has to be asked for there
        messages[2] = {**messages[2], "content": "the cat"}
    return messages, TOOLS if shape == "tools" and "tools" in template else None
