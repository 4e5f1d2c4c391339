"""From text to token ids on disk: scan, split, encode, publish; and back as memory maps."""
