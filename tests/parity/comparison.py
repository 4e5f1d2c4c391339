"""What every family is held to: logits, loss, gradients and greedy text of transformers' model and of ours are equal.

Knows both models' forward; which of our parameters is which of theirs is said by each family's table.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from rounding import assert_only_rounded, choices_are_beyond_rounding
from torch import Tensor, nn
from transformers_float64 import Float64

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


@dataclass(frozen=True)
class Results:
    """What a model makes of some ids: logits, loss and the gradients by our names."""

    logits: Tensor
    loss: Tensor
    gradients: dict[str, Tensor]


def _ids(net: GPT) -> Tensor:
    return torch.randint(0, net.vocab_size, (3, min(net.context, 50)), generator=torch.Generator().manual_seed(1))


def _theirs(table: Table, model: nn.Module, ids: Tensor) -> Results:
    model.zero_grad()
    found = model(input_ids=ids, labels=ids)
    found.loss.backward()
    gradients = table({name: parameter.grad for name, parameter in model.named_parameters()})
    return Results(found.logits.detach(), found.loss.detach(), gradients)


def _ours(net: GPT, ids: Tensor) -> Results:
    def chunked_loss(hidden: Tensor, weight: Tensor, softcap: float | None, aux: Tensor | float) -> Tensor:
        targets = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], -100)), dim=1)
        total = linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), softcap, chunk_elements=5000)
        return total / (ids.shape[0] * (ids.shape[1] - 1))

    loss = net(ids, reduce=chunked_loss)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}
    return Results(net(ids).detach(), loss.detach(), gradients)


def check_in_float64(table: Table, theirs: nn.Module, net: GPT, tolerance: float = 1e-10) -> None:
    """Both models in float64 on the same ids; to be run where transformers keeps to float64 (`Float64`).

    Args:
        table: their tensors by our names.
        theirs: a transformers model.
        net: ours, with the same weights.
        tolerance: the largest absolute difference allowed; gradients are measured against the largest of their tensor.
    """
    reference, found = _theirs(table, theirs, _ids(net)), _ours(net, _ids(net))
    assert found.logits.dtype == reference.logits.dtype == torch.float64
    assert 0.5 < reference.logits.std() < 100, "logits too even, or too far apart, to compare"
    torch.testing.assert_close(found.logits, reference.logits, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.loss, reference.loss, rtol=0, atol=tolerance)
    # A key's bias changes no weight of attention, so its gradient is rounding alone and needs another measure.
    least = max(gradient.abs().max() for gradient in reference.gradients.values()) / 100
    for name, expected in reference.gradients.items():
        difference = (found.gradients[name] - expected).abs().max() / max(expected.abs().max(), least)
        assert difference <= tolerance, f"{name}: gradients differ by {difference:.1e} of the largest"


def check_in_float32(table: Table, theirs: nn.Module, net: GPT, exact: nn.Module) -> None:
    """Both models in float32 on the same ids: each misses the float64 answer by rounding alone.

    Args:
        table: their tensors by our names.
        theirs: a transformers model.
        net: ours, with the same weights.
        exact: theirs in float64; gets the weights of the others.
    """
    with torch.no_grad():
        for parameter, rounded in zip(exact.parameters(), theirs.parameters(), strict=True):
            parameter.copy_(rounded)
    with Float64():
        reference = _theirs(table, exact, _ids(net))
    assert reference.logits.dtype == torch.float64
    assert 0.5 < reference.logits.std() < 100, "logits too even, or too far apart, to compare"
    # A key's bias changes no weight of attention: its gradient is a sum that cancels, and its terms' rounding is left.
    least = max(_rms(gradient) for gradient in reference.gradients.values()) / 10
    depth, width = net.sizes.depth, net.sizes.width
    for who, found in (("theirs", _theirs(table, theirs, _ids(net))), ("ours", _ours(net, _ids(net)))):
        assert_only_rounded(found.logits, reference.logits, depth, width, what=f"{who}: logits")
        assert_only_rounded(found.loss, reference.loss, depth, width, what=f"{who}: loss")
        for name, expected in reference.gradients.items():
            scale = max(_rms(expected), least)
            assert_only_rounded(found.gradients[name], expected, depth, width, 2, scale, f"{who}: gradient of {name}")


def _rms(tensor: Tensor) -> float:
    return tensor.square().mean().sqrt().item()


def check_greedy_text(pair: Callable[[int], tuple[nn.Module, GPT]], tokens: int = 100) -> None:
    """Greedy continuations are the same ids, alone and in a batch of unequal rows.

    Args:
        pair: makes both models of a seed; the first is taken whose texts can be compared.
        tokens: length of the texts.
    """
    for seed in range(10):
        theirs, net = pair(seed)
        texts = [_greedy(theirs, net, prompt, tokens) for prompt in PROMPTS]
        if all(texts):
            break
    assert all(texts), "no seed gives texts that can be compared"
    batch = [*generate(net, PROMPTS, max_new_tokens=tokens)]
    for row, (prompt, text) in enumerate(zip(PROMPTS, texts, strict=True)):
        assert [id for (id,) in generate(net, [prompt], max_new_tokens=tokens)] == text
        assert [step[row] for step in batch] == text


def _greedy(theirs: nn.Module, net: GPT, prompt: list[int], tokens: int) -> list[int]:
    """Their text; nothing where it goes round in circles, which proves little, or where a choice is one of rounding."""
    written = theirs.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), max_new_tokens=tokens,
        do_sample=False, eos_token_id=None, pad_token_id=0, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    text = written.sequences[0, len(prompt) :].tolist()
    assert len(text) == tokens
    told = choices_are_beyond_rounding(torch.cat(written.logits), net.sizes.depth, net.sizes.width)
    return text if told and len(set(text)) > 5 else []
