"""Filters of documents: by length, language and duplicates."""
