"""What is changed at random in training batches."""
