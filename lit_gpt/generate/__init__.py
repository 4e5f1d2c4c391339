"""Text generation: `engine` (token ids), `logits_processors` (sampling), `text_generator` (text)."""
