"""Tokenizers: trained, published and byte- or character-level, and the files that they are written to."""
