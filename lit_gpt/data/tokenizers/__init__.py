"""Text to ids and back: what is learned here, what others made, and the formats in which they are kept."""
