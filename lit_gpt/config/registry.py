"""Settings of a net that do not change what its weights mean: a run that starts from a checkpoint may set them anew,
and two nets that differ in nothing else are one. Knows no other module."""

FREE_ARGUMENTS = ("dropout", "activation_checkpointing", "seed", "init")
FREE_COMPONENT_ARGUMENTS = ("dropout", "aux_loss_coef", "z_loss_coef", "pooled")  # wherever a part has them
