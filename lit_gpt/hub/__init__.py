"""Import and export of Hugging Face model folders: config.json, safetensors and tokenizer.json.

Each model family is one file in `families/`: it reads and writes config.json and maps the weights, one table for both
ways. No code of a folder is run, and no pickle is read.
"""
