"""Checkpoints: read one, and rebuild its net, tokenizer and document format. Needs torch, not lightning."""

from lit_gpt.checkpoint.contents import Checkpoint, find, read, write_fields
from lit_gpt.checkpoint.rebuild import build_net, load, load_format, load_weights

__all__ = ["Checkpoint", "build_net", "find", "load", "load_format", "load_weights", "read", "write_fields"]
