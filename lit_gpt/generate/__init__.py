"""Tokens out of a finished net: `engine` (ids), `rules` (how a token is chosen), `writer` (text)."""
