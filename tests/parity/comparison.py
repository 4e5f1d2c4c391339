"""What every family is held to: logits, loss, gradients and greedy text of transformers' model and of ours are equal.

Knows both models' forward; which of our parameters is which of theirs is said by each family's table.
"""

from collections.abc import Callable

import torch
from rounding import assert_is_rounding, in_float64
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


def check_float32(table: Table, theirs: nn.Module, net: GPT) -> None:
    """Logits, loss and gradients of both differ by rounding alone from one float64 answer.

    That answer is our net's, which `check_float64` holds against transformers' own.

    Args:
        table: Their tensors by our names.
        theirs: A transformers model in float32.
        net: Ours, with the same weights.
    """
    exact = _ours(in_float64(net))
    for whose, answers in (("ours", _ours(net)), ("transformers", _transformers(table, theirs, net))):
        for name, value in exact.items():
            assert_is_rounding(answers[name], value, f"{whose}: {name}", _scale(exact, name))


def check_float64(table: Table, theirs: nn.Module, net: GPT, tolerance: float = 1e-10) -> None:
    """Logits and loss are equal to 1e-10, gradients to 1e-10 of the largest of their tensor.

    Args:
        table: Their tensors by our names.
        theirs: A transformers model in float64.
        net: Ours, with the same weights.
        tolerance: What may be between them.
    """
    own, expected = _ours(net), _transformers(table, theirs, net)
    for name, value in expected.items():
        assert own[name].dtype == value.dtype == torch.float64
        scale = 1.0 if name in ("logits", "loss") else _scale(expected, name)
        difference = float((own[name] - value).abs().max()) / scale
        assert difference <= tolerance, f"{name}: off by {difference:.1e}"


def _ids(net: GPT) -> Tensor:
    shape = (3, min(net.context, 50))
    return torch.randint(0, net.vocab_size, shape, generator=torch.Generator().manual_seed(1))


def _ours(net: nn.Module) -> dict[str, Tensor]:
    """Logits, loss and the gradient of each parameter, the loss in chunks as training computes it."""
    assert isinstance(net, GPT)
    ids = _ids(net)

    def chunked_loss(hidden: Tensor, weight: Tensor, softcap: float | None, aux: Tensor | float) -> Tensor:
        targets = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], -100)), dim=1)
        total = linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), softcap, chunk_elements=5000)
        return total / (ids.shape[0] * (ids.shape[1] - 1))

    logits, loss = net(ids), net(ids, reduce=chunked_loss)
    assert 0.5 < logits.std() < 100, "logits too even, or too far apart, to compare"
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    return {"logits": logits.detach(), "loss": loss.detach(), **gradients}


def _transformers(table: Table, theirs: nn.Module, net: GPT) -> dict[str, Tensor]:
    """The same of transformers' model, gradients by our names."""
    ids = _ids(net)
    found = theirs(input_ids=ids, labels=ids)
    found.loss.backward()
    gradients = table({name: parameter.grad for name, parameter in theirs.named_parameters()})
    return {"logits": found.logits.detach(), "loss": found.loss.detach(), **gradients}


def _scale(values: dict[str, Tensor], name: str) -> float:
    """The largest number of a tensor.

    A key's bias changes no attention weight, so its gradient is rounding alone: it is measured against the others'.
    """
    largest = float(values[name].abs().max())
    if name in ("logits", "loss"):
        return largest
    return max(largest, max(float(v.abs().max()) for n, v in values.items() if n not in ("logits", "loss")) / 100)


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
