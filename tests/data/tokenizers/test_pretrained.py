"""Tokenizers of others against the transformers library that reads the same folder, and its reading of what is written
here; tokenizers are trained on a small text, so nothing is fetched."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hub_kinds import (
    CASES,
    KINDS,
    MADE,
    TEXT,
    assert_equal_to,
    folder_of,
    random_texts,
    theirs,
    without_tokens_across_words,
    written,
)
from tokenizers import Tokenizer as Inner
from tokenizers import models

from lit_gpt.data import BPE, Byte, Char, Pretrained, Saved, Tokenizer
from lit_gpt.data.tokenizers.safe_splits import find_splits, split_text
from lit_gpt.errors import UserError


@pytest.mark.parametrize(("kind", "class_name"), CASES)
def test_ids_equal_transformers_for_folders_read_and_written(kind: str, class_name: str | None, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", kind, class_name)
    ours, texts = Pretrained.from_folder(folder), random_texts(1000)
    assert_equal_to(theirs(folder), ours, texts)
    again = Tokenizer.restore(json.loads(json.dumps(ours.state())))
    assert again.encode_batch(texts) == ours.encode_batch(texts) and again.fingerprint() == ours.fingerprint()
    for model_type in (KINDS[kind][2], "llama"):
        out = tmp_path / f"out_{model_type}"
        out.mkdir(exist_ok=True)
        for name, text in ours.hub_files().items():
            (out / name).write_text(text)
        (out / "config.json").write_text(json.dumps({"model_type": model_type}))
        assert_equal_to(theirs(out), ours, texts[:200])
        assert Pretrained.from_folder(out).encode_batch(texts) == ours.encode_batch(texts)


@pytest.mark.parametrize("special", [True, False])
def test_our_own_tokenizers_are_read_by_transformers(special: bool, tmp_path: Path) -> None:
    roles = {"bos": "<s>", "eos": "</s>", "pad": "<pad>"} if special else {}
    bpe = BPE(vocab_size=300, separator=None, **roles)  # type: ignore[arg-type]
    char = Char(**roles, unk="<unk>" if special else None)
    texts = random_texts(300)
    bpe.train(TEXT)
    char.train(texts)
    for tokenizer in (bpe, Byte(**roles), char):
        folder = written(tmp_path / type(tokenizer).__name__, tokenizer)
        other = theirs(folder)
        assert_equal_to(other, tokenizer, texts)
        assert len(other) == tokenizer.vocab_size
        assert [getattr(other, f"{role}_token_id") for role in ("bos", "eos", "pad", "unk")] == [
            tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.unk
        ]  # fmt: skip
        # `bos` stands ahead of prompts in both worlds, and of what is read back.
        assert other("the").input_ids == [*([tokenizer.bos] if special else []), *tokenizer.encode("the")]
        again = Saved(str(folder))
        assert isinstance(again, Pretrained) and again.starts_with_bos == tokenizer.starts_with_bos
        assert again.encode_batch(texts) == tokenizer.encode_batch(texts) and again.eos == tokenizer.eos


def test_a_character_that_is_not_known_is_refused_there_too(tmp_path: Path) -> None:
    char = Char()
    char.train(["abc"])
    with pytest.raises(Exception, match=r"(?i)unk"):
        theirs(written(tmp_path / "char", char))("abd")


def test_special_tokens_follow_and_are_read_by_transformers(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", *CASES[0])
    ours, plain = Pretrained.from_folder(folder), Pretrained.from_folder(folder)
    first, text = plain.vocab_size, "the <|user|><|bot|> cat"
    ours.with_special(["<|user|>", "<|bot|>"]).with_special(["<|user|>"])
    assert [ours.special_id("<|user|>"), ours.special_id("<|bot|>")] == [first, first + 1]
    for one in (
        ours,
        Tokenizer.restore(json.loads(json.dumps(ours.state()))),
        Saved(str(written(tmp_path / "a", ours))),
    ):
        assert one.encode(text) == plain.encode(text) and one.vocab_size == first + 2
        assert one.special_id("<|bot|>") == first + 1 and first + 1 in one.special_ids
        assert one.decode([first, *one.encode("the"), first + 1]) == "the" and one.token(first) == "<|user|>"
    assert theirs(tmp_path / "a").convert_tokens_to_ids(["<|user|>", "<|bot|>"]) == [first, first + 1]
    assert pickle.loads(pickle.dumps(ours)).encode(text) == plain.encode(text)
    assert ours.add_tokens(["<|bot|>"]) == {} and ours.encode(text).count(first + 1) == 1
    assert Tokenizer.restore(ours.state()).encode(text) == ours.encode(text)


def test_added_tokens_are_read_by_transformers(tmp_path: Path) -> None:
    new = ["<|user|>", " two words ", "道!"]
    bpe = BPE(vocab_size=300)
    bpe.train(TEXT)
    folder = folder_of(tmp_path / "gpt2", "gpt2", "GPT2Tokenizer", added_tokens_decoder={})
    for tokenizer in (bpe, Pretrained.from_folder(folder)):
        before = tokenizer.vocab_size
        assert tokenizer.add_tokens(new) == {text: before + place for place, text in enumerate(new)}
        assert tokenizer.add_tokens(new) == {} and tokenizer.vocab_size == before + 3
        text = "a<|user|>b two words 道!"
        assert {before, before + 1, before + 2} <= set(tokenizer.encode(text)) and tokenizer.decode(
            tokenizer.encode(text)
        ) == text
        lengths = tokenizer.byte_lengths()
        assert lengths is not None and sum(lengths[id] for id in tokenizer.encode(text)) == len(text.encode())
        texts = [text, *(new[0].join(pair) for pair in zip(random_texts(50), random_texts(50, 5), strict=True))]
        other = theirs(written(tmp_path / type(tokenizer).__name__, tokenizer))
        assert_equal_to(other, tokenizer, texts)
        assert Tokenizer.restore(tokenizer.state()).encode_batch(texts) == tokenizer.encode_batch(texts)


def test_a_special_token_can_be_made_to_count_in_text(tmp_path: Path) -> None:
    tokenizer = Pretrained.from_folder(folder_of(tmp_path / "qwen", "qwen3"))
    mark, old = "<|im_start|>", tokenizer.fingerprint()
    id = tokenizer._inner.token_to_id(mark)
    assert id not in tokenizer.encode(f"a{mark}") and tokenizer.decode(tokenizer.encode(f"a{mark}")) == f"a{mark}"
    assert tokenizer.add_tokens([mark]) == {}  # it has its id, and its row, already
    assert tokenizer.encode(f"a{mark}")[-1] == id and tokenizer.decode([id]) == mark
    assert tokenizer.fingerprint() != old
    assert tokenizer.eos not in tokenizer.encode("<|im_end|>")  # the others stay as they were


def test_roles_are_found_wherever_they_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "llama", "llama3")
    end = "</s>"
    inner = Inner.from_file(str(folder / "tokenizer.json"))
    inner.add_special_tokens([end, "<|eot|>"])
    inner.save(str(folder / "tokenizer.json"))
    last = inner.token_to_id(end)
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.py", null]}}')
    (folder / "evil.py").write_text("raise SystemExit('code of the folder was run')")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [last, last + 1, 10**6]}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    from_ids = Pretrained.from_folder(folder, {"bos_token_id": 0, "eos_token_id": last, "pad_token_id": 10**6})
    assert (from_ids.bos, from_ids.eos, from_ids.pad) == (0, last, None)
    assert from_ids.stop_ids == {last, last + 1} and from_ids.starts_with_bos
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|eot|>"}}))
    from_map = Pretrained.from_folder(folder, {"eos_token_id": last})
    assert from_map.eos == last + 1 and from_map.bos is None and not from_map.starts_with_bos
    assert from_map.chat_templates == {"default": "{{ messages }}"}
    files = from_map.hub_files()
    assert "auto_map" not in files["tokenizer_config.json"] and "evil.py" not in files
    assert files["generation_config.json"] == (folder / "generation_config.json").read_text()
    assert files["tokenizer.json"] == (folder / "tokenizer.json").read_text()
    assert theirs(written(tmp_path / "out", from_map))("the").input_ids[1:] == from_map.encode("the")


def test_vocabulary_and_merges_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "gpt2", "gpt2", None)
    Inner.from_file(str(folder / "tokenizer.json")).model.save(str(folder))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "config.json").write_text('{"model_type": "gpt2", "bos_token_id": 0, "eos_token_id": 0}')
    ours = Pretrained.from_folder(folder)
    assert ours.eos == ours.bos == 0
    assert_equal_to(theirs(folder), ours, random_texts(300))
    assert_equal_to(theirs(written(tmp_path / "out", ours)), ours, random_texts(300))


def test_the_file_is_taken_at_its_word_when_that_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    folder = folder_of(tmp_path / "digits", "digits", "GPT2Tokenizer")
    texts = [*random_texts(300), "it's 1234 dogs, I'LL say\n\n the cat"]
    alone = Inner.from_file(str(folder / "tokenizer.json"))
    wanted = [one.ids for one in alone.encode_batch(texts, add_special_tokens=False)]
    assert Pretrained(str(folder)).encode_batch(texts) != wanted
    assert "is read as transformers reads it: GPT2Tokenizer" in capsys.readouterr().err
    literal = Pretrained(str(folder), as_transformers=False)
    assert literal.encode_batch(texts) == wanted and not capsys.readouterr().err
    assert_equal_to(theirs(written(tmp_path / "out", literal)), literal, texts)
    assert Tokenizer.restore(literal.state()).encode_batch(texts) == wanted


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "llama2", "gemma"])
def test_a_stream_says_what_decode_says(kind: str, tmp_path: Path) -> None:
    tokenizer = Pretrained.from_folder(folder_of(tmp_path / kind, kind))
    lossless = kind in ("gpt2", "llama3")
    lengths = tokenizer.byte_lengths()
    assert (lengths is not None) == lossless
    for text in random_texts(200):
        ids, stream = tokenizer.encode(text), tokenizer.stream()
        said = "".join(map(stream.step, ids)) + stream.flush()
        prefix = (
            " " if kind == "llama2" else ""
        )  # a text's own first space is put there, and taken away, by the library
        assert said == prefix + tokenizer.decode(ids) or (not ids and not text), repr(text)
        if lengths is not None:
            assert sum(lengths[id] for id in ids) == len(text.encode())
    assert tokenizer.decode([tokenizer.bos or 0]) == "" and tokenizer.token(tokenizer.bos or 0) in (
        "<s>",
        "<|endoftext|>",
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mark", [[], ["<|user|>"]])
def test_parts_of_a_long_text_are_encoded_as_the_whole(
    kind: str, mark: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The vocabulary of sentences is that of words, as where it was learned with spaces kept apart.
    monkeypatch.setitem(MADE, kind, without_tokens_across_words(KINDS[kind][0]()))
    tokenizer = Pretrained.from_folder(folder_of(tmp_path / kind, kind, KINDS[kind][3][0]))
    tokenizer.add_tokens(mark)
    some = random_texts(300)
    ends = "".join(mark) + "a  b\u0301 \u0301 ▁ x!\n y"
    texts = [" ".join(some[place : place + 3]) + ends for place in range(0, 300, 3)]
    wanted = tokenizer.encode_batch(texts)
    cuts = 0

    def counted(text: str, place: re.Pattern[str]) -> list[str]:
        nonlocal cuts
        parts = list(split_text(text, place))
        cuts += len(parts) - 1
        return parts

    monkeypatch.setattr("lit_gpt.data.tokenizers.safe_splits._PART", 3)
    monkeypatch.setattr("lit_gpt.data.tokenizers.batched_encode.split_text", counted)
    assert tokenizer.encode_batch(texts) == wanted
    proven = find_splits(tokenizer._inner)[0] is not None
    assert proven == (cuts > 300)
    if (place := tokenizer.split_points) is not None:  # then parts may be encoded by themselves
        alone = [[id for part in split_text(text, place) for id in tokenizer.encode(part)] for text in texts[:20]]
        assert alone == wanted[:20]
    sections = kind in ("llama2", "mistral", "phi3", "metaspace")  # a space of its own after each mark
    assert proven == (not (mark and sections))


def test_ids_without_a_token_are_never_drawn(tmp_path: Path) -> None:
    import torch

    from lit_gpt.generate.text_generator import TextGenerator
    from lit_gpt.model import GPT

    vocabulary = {"a": 0, "b": 1, "<end>": 2, "c": 5}
    content = json.loads(Inner(models.WordLevel(vocabulary, unk_token="a")).to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    tokenizer = Pretrained(str(tmp_path))
    assert tokenizer.vocab_size == 6 and tokenizer.unused_ids == {3, 4}
    assert tokenizer.decode([0, 3, 4]) == "a" and tokenizer.stream().step(4) == ""
    with pytest.raises(UserError, match="past the tokenizer's vocabulary of 6"):
        tokenizer.decode([6])
    net = GPT(vocab_size=8, width=8, depth=1, heads=1, context=8)
    logits = TextGenerator(net, tokenizer).suppress(torch.zeros(1, 8), torch.zeros(1, 1, dtype=torch.int64))
    assert torch.isinf(logits[0]).nonzero().flatten().tolist() == [3, 4, 6, 7]


def test_a_folder_of_the_hub_and_a_corpus_are_told_apart(tmp_path: Path) -> None:
    hub = folder_of(tmp_path / "hub", "gpt2")
    assert isinstance(Saved(str(hub)), Pretrained) and isinstance(Saved(str(hub / "tokenizer.json")), Pretrained)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    Saved(str(hub)).save(corpus / "tokenizer.json")
    again = Saved(str(corpus))
    assert isinstance(again, Pretrained) and again.fingerprint() == Saved(str(hub)).fingerprint()
    Byte().save(corpus / "tokenizer.json")
    assert isinstance(Saved(str(corpus)), Byte)


def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    def folder(name: str, **files: str) -> Path:
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file.replace("__", ".")).write_text(text)
        return tmp_path / name

    for place, words in (
        (tmp_path / "nowhere", "there is no folder .*nowhere; give one with a tokenizer.json"),
        (folder("empty"), "holds no tokenizer; give a folder with a tokenizer.json, or with vocab.json and merges.txt"),
        (folder("sp", tokenizer__model="x"), "tokenizer.model of SentencePiece alone; give a folder"),
        (folder("torn", tokenizer__json="{"), "tokenizer.json is damaged"),
        (folder("list", tokenizer__json="[]"), "tokenizer.json is damaged"),
        (folder("other", tokenizer__json='{"a": 1}'), "is not of the tokenizers library"),
        (folder("odd", tokenizer__json='{"model": {"type": "X"}, "added_tokens": []}'), "cannot be used"),
        (folder("half", vocab__json='{"a": 0}'), "holds no tokenizer"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            Pretrained.from_folder(place)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="give its folder with data.tokenizer.path"):
        Pretrained().encode("a")
    with pytest.raises(UserError, match="Byte takes no new tokens"):
        Byte().add_tokens(["x"])


def test_training_from_scratch_with_it(tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lit_gpt import checkpoint
    from lit_gpt.__main__ import main

    monkeypatch.chdir(tmp_path)
    hub = folder_of(tmp_path / "hub", "llama2", "LlamaTokenizer")
    words = [
        *("--model.net.width=16", "--model.net.depth=1", "--model.net.heads=2", "--model.net.context=16"),
        *(f"--data.source.paths={text_file}", "--data.batch_size=2", "--trainer.limit_val_batches=1"),
        *("--trainer.enable_progress_bar=false", "--sample.max_new_tokens=2", "--trainer.accelerator=cpu"),
    ]
    chosen = ["--data.tokenizer", "Pretrained", "--data.tokenizer.path", str(hub)]
    assert main(["fit", *words, *chosen, "--trainer.max_steps=1", "--name=one"]) == 0
    wanted = Pretrained(str(hub))
    for file in hub.iterdir():
        file.unlink()
    tokenizer = checkpoint.load("runs/one")[1]
    assert tokenizer.fingerprint() == wanted.fingerprint() and tokenizer.starts_with_bos
    assert main(["fit", "--name=one", "--resume", "--trainer.max_steps=2"]) == 0
    assert main(["generate", "runs/one", "--max_new_tokens=2"]) == 0
