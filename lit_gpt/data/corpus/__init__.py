"""From sources to ids on disk, and back as memory maps: scan, splits, packets, engines, columns."""
