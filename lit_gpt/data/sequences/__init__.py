"""Sequences of a corpus: windows, packed documents, prompts."""
