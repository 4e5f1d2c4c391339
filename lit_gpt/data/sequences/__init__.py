"""How a corpus is cut into rows: windows, packed documents, prompts."""
