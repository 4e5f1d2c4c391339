"""Samplers: the order of sequences, and their batches."""
