"""Data augmentation of training batches."""
