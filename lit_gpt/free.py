"""Settings of a net that do not change what its weights mean: a run that starts from a checkpoint may set them anew,
and two nets that differ in nothing else are one. Knows no other module."""

FREE = ("dropout", "recompute", "seed", "init")
FREE_OF_PARTS = ("dropout", "balance", "z_loss", "pooled")  # wherever a part has them
