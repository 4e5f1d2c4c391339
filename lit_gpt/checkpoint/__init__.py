"""Checkpoints: read one, and rebuild its net, tokenizer and document format. Needs torch, not lightning."""

from lit_gpt.checkpoint.rebuild import build_net, find, load, load_format, load_weights, net_config, read

__all__ = ["build_net", "find", "load", "load_format", "load_weights", "net_config", "read"]
