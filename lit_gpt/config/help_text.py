"""What `--help` of fit, validate and test says before the keys."""

HELP = {
    "fit": """Train a GPT and end with a checkpoint, its validation loss and a sample. Every key below can stand in a
YAML file (--config FILE; several are merged in order; `base: other.yaml` inherits) or on the command line. A component
takes a class: --model.net.norm RMSNorm --model.net.norm.eps 1e-6; --model.net.help lit_gpt.model.GPT
lists the components. Examples: `lit-gpt fit --config configs/quickstart.yaml`; `lit-gpt fit --data.source TextFiles
--data.source.paths my_text/ --name mine`; `lit-gpt fit --config configs/quickstart.yaml --resume
--trainer.max_steps 3000`.""",
    "validate": """Measure a checkpoint on its validation text: `lit-gpt validate runs/quickstart`. Net, tokenizer and
data come from the checkpoint; what is typed goes before (--data.source.paths other/).""",
    "test": """Measure a checkpoint on its test text: `lit-gpt test runs/quickstart`. Net, tokenizer and data come from
the checkpoint; what is typed goes before (--data.test_source.paths other/).""",
}
