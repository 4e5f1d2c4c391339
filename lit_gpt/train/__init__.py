"""Training: LightningModule, objectives, metrics, optimizers, learning rate schedules, callbacks, checkpointing."""
