"""Models in and out of the Hugging Face world: folders of config.json, safetensors and tokenizer.json.

Each family of models is one file in `families/`: how its config.json says what our components say, and which of its
tensors is which of ours. One table serves both ways. No code from a folder is ever run, and no pickle is read.
"""
