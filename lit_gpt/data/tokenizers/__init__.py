"""Text to ids and back: what is learned here, what others made, and the forms in which they are kept."""
