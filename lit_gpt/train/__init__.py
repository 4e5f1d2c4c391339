"""Learning: the LightningModule, objectives, metrics, optimizer groups, schedules, callbacks, saving."""
