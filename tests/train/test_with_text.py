"""The learning on real batches of the data module: exact resume at an epoch's end and within an epoch."""

from pathlib import Path
from typing import Any

import pytest
import test_exact_resume
import torch

from lit_gpt.checkpoint.manifest import verify
from lit_gpt.data import RandomCrops, Shuffled, TextFiles, TokenData
from lit_gpt.data.tokenizers.byte_and_char import Char
from lit_gpt.model import GPT
from lit_gpt.train.module import LitGPT


@pytest.mark.parametrize("sampler", [Shuffled, RandomCrops])
@pytest.mark.parametrize(("accumulate", "limit"), [(1, 10), (3, 10)])  # step 10: an epoch's end, and within one
def test_resume_is_exact_on_text(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, sampler: Any, accumulate: int, limit: int
) -> None:
    def data(rows: int) -> TokenData:
        source = lambda: TextFiles(str(text_file))  # noqa: E731
        return TokenData(source, Char, str(tmp_path / "corpus"), context=16, batch_size=4, sampler=sampler, seed=1)

    def model(dropout: float) -> LitGPT:
        return LitGPT(GPT(64, width=16, depth=1, heads=2, context=16, dropout=dropout, seed=0))

    monkeypatch.setattr(test_exact_resume, "TinyData", data)
    monkeypatch.setattr(test_exact_resume, "tiny", model)
    options = {"accumulate_grad_batches": accumulate, "limit_train_batches": limit, "limit_val_batches": 3}
    whole, losses, meter = test_exact_resume.run(tmp_path / "whole", 16, **options)
    test_exact_resume.run(tmp_path / "parts", 16, kill=13, **options)
    resumed, tail, again = test_exact_resume.run(tmp_path / "parts", 16, resume=True, **options)
    assert tail == losses[-len(tail) :]
    fingerprints = verify(tmp_path / "parts" / "last.ckpt")["fingerprints"]
    assert len(fingerprints["tokenizer"]) >= 16
    assert fingerprints["text"].keys() == {"train", "val"}
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    assert again.latest["val_bpb"] == meter.latest["val_bpb"]
    assert again.latest["tokens"] == meter.latest["tokens"]
