"""From sources to ids on disk, and back as memory maps: survey, splits, packets, engines, columns."""
