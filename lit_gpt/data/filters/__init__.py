"""What leaves documents out of a text."""
