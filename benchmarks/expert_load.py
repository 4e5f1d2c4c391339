"""How evenly a trained net uses its experts: each one's tokens over its fair share, by layer.

python benchmarks/expert_load.py runs/moe tinyshakespeare.txt
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from lit_gpt import load
from lit_gpt.model import GPT
from lit_gpt.nn import MoE


@torch.no_grad()
def loads(net: GPT, ids: Tensor) -> dict[str, Tensor]:
    """For each layer with experts, by name: each expert's tokens over the mean of all experts'."""
    found: dict[str, Tensor] = {}

    def listen(name: str, layer: MoE) -> None:
        def count(router: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> None:
            chosen = logits.topk(layer.top_k, -1).indices.flatten()
            found[name] = torch.bincount(chosen, minlength=layer.experts) * layer.experts / len(chosen)

        layer.router.register_forward_hook(count)

    for name, module in net.named_modules():
        if isinstance(module, MoE):
            listen(name, module)
    net(ids)
    return found


def main() -> None:
    """Prints a line for each layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run directory or a checkpoint")
    parser.add_argument("text", help="a file; its last tenth is routed")
    parser.add_argument("--tokens", type=int, default=50_000)
    asked = parser.parse_args()
    net, tokenizer = load(asked.run)
    text = Path(asked.text).read_text(encoding="utf-8")
    ids = torch.tensor(tokenizer.encode(text[-len(text) // 10 :])[: asked.tokens])
    rows = ids[: len(ids) // net.context * net.context].view(-1, net.context)
    for name, shares in loads(net, rows).items():
        numbers = " ".join(f"{share:.2f}" for share in shares.tolist())
        print(f"{name}: {numbers}  least {shares.min():.2f}")


if __name__ == "__main__":
    main()
