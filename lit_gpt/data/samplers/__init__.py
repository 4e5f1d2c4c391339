"""In which order rows are taken, and in which batches."""
