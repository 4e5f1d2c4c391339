"""What every family is held to: logits, loss, gradients and greedy text of transformers' model and of ours are equal.

Knows both models' forward; which of our parameters is which of theirs is said by each family's table.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_gpt.generate.engine import generate
from lit_gpt.model import GPT
from lit_gpt.nn import linear_cross_entropy

Table = Callable[[dict[str, Tensor]], dict[str, Tensor]]  # tensors by their names -> tensors by ours
PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [7, 7], [11] * 5]


def randomize(model: nn.Module, scale: float = 1.0, seed: int = 0) -> None:
    """Fills all parameters, norms and biases too, so that nothing left out or left at its default goes unseen.

    Args:
        model: any.
        scale: of the matrices; 3 gives texts that do not go round in circles.
        seed: of the numbers.
    """
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
        if parameter.ndim == 1:
            norm = bool((parameter == 1).all())
            noise = norm + 0.2 * noise
        else:
            noise = scale * noise / min(parameter.shape[-2:]) ** 0.5  # experts are stacked
        parameter.data.copy_(noise)


def copy(table: Table, theirs: nn.Module, net: GPT) -> None:
    """Copies their weights into ours; every parameter of ours must be filled and every one of theirs used."""
    mapped = table({name: parameter.detach() for name, parameter in theirs.named_parameters()})
    own = dict(net.named_parameters())
    assert mapped.keys() == own.keys(), mapped.keys() ^ own.keys()
    assert sum(p.numel() for p in mapped.values()) == sum(p.numel() for p in theirs.parameters())
    for name, parameter in own.items():
        assert parameter.shape == mapped[name].shape, name
        parameter.data.copy_(mapped[name])


def check_logits_loss_and_gradients(table: Table, theirs: nn.Module, net: GPT, tolerance: float) -> None:
    """Both models on the same ids.

    Args:
        table: their tensors by our names.
        theirs: a transformers model.
        net: ours, with the same weights.
        tolerance: the largest absolute difference allowed; gradients are measured against the largest of their tensor.
    """
    vocabulary = net.vocab_size
    ids = torch.randint(0, vocabulary, (3, min(net.context, 50)), generator=torch.Generator().manual_seed(1))
    reference = theirs(input_ids=ids, labels=ids)
    logits = net(ids)
    assert logits.dtype == reference.logits.dtype
    assert 0.5 < logits.std() < 100, "logits too even, or too far apart, to compare"
    torch.testing.assert_close(logits, reference.logits, rtol=0, atol=tolerance)

    def chunked_loss(hidden: Tensor, weight: Tensor, softcap: float | None, aux: Tensor | float) -> Tensor:
        targets = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], -100)), dim=1)
        total = linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), softcap, chunk_elements=5000)
        return total / (ids.shape[0] * (ids.shape[1] - 1))

    loss = net(ids, reduce=chunked_loss)
    torch.testing.assert_close(loss, reference.loss, rtol=0, atol=tolerance)
    loss.backward()
    reference.loss.backward()
    expected = table({name: parameter.grad for name, parameter in theirs.named_parameters()})
    # A key's bias changes no weight of attention, so its gradient is rounding alone and needs another measure.
    least = max(gradient.abs().max() for gradient in expected.values()) / 100
    for name, parameter in net.named_parameters():
        difference = (parameter.grad - expected[name]).abs().max() / max(expected[name].abs().max(), least)
        assert difference <= tolerance, f"{name}: gradients differ by {difference:.1e} of the largest"


def check_greedy_text(theirs: nn.Module, net: GPT, tokens: int = 100) -> None:
    """Greedy continuations are the same ids, alone and in a batch of unequal rows."""
    batch = [*generate(net, PROMPTS, max_new_tokens=tokens)]
    for row, prompt in enumerate(PROMPTS):
        reference = theirs.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), max_new_tokens=tokens,
            do_sample=False, eos_token_id=None, pad_token_id=0,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert len(reference) == tokens and len(set(reference)) > 5, "a text that goes round in circles proves little"
        assert [id for (id,) in generate(net, [prompt], max_new_tokens=tokens)] == reference
        assert [step[row] for step in batch] == reference
