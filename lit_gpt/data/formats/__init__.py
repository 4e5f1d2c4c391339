"""How documents are laid out: text, conversations, tasks, gaps."""
