"""Numbers that make no sense are refused by name: all of the trainer's, the model's and the data's."""

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from lit_gpt.__main__ import main
from lit_gpt.config import limits
from lit_gpt.config.registry import import_components
from lit_gpt.config.schema import components, with_subclasses
from lit_gpt.data.module import TokenData
from lit_gpt.errors import UserError
from lit_gpt.train.checkpointing import BestCheckpoint, LastCheckpoint
from lit_gpt.train.module import LitGPT
from lit_gpt.train.samples import SampleText

SECTIONS = {
    "trainer": Trainer, "model": LitGPT, "data": TokenData,
    "sample": SampleText, "best": BestCheckpoint, "last": LastCheckpoint,
}  # fmt: skip
TINY = """--model.net.width 16 --model.net.depth 1 --model.net.heads 2 --model.net.context 8 --data.tokenizer Byte
    --data.batch_size 2 --trainer.limit_val_batches 1 --trainer.accelerator cpu --trainer.enable_progress_bar false
    --sample.max_new_tokens 2 --trainer.max_steps 1 --name n""".split()
# What the net, the data or the trainer gives to a class; a duration; what the TINY text has no place for.
GIVEN = {
    "max_time",
    "limit of StandardLibrary",
    "limit of HubDataset",
    "vocab_size of GPT",
    "context of Windows",
    "context of Packed",
    "context of Prompts",
    "steps",
    "sizes",
}
# Where a negative number says something: -1 for no end, an offset, any seed.
NEGATIVE_IS_FINE = {"seed", "center", "max_epochs", "max_steps", "num_sanity_val_steps", "devices", "ns_coefficients"}
# Where there has to be something.
ZERO_IS_NONSENSE = set(
    "width depth heads context kv_heads head_size window hidden ratio experts top_k base partial_rotary_factor factor"
    " scale attn_softcap logit_softcap"
    " embedding_scale max_bias original_context num_nodes max_epochs max_steps val_check_interval limit_train_batches"
    " check_val_every_n_epoch accumulate_grad_batches batch_size val_batch_size vocab_size train_chars stride"
    " character_coverage stages epochs tokens start_context grow_epochs shingle permutations save_top_k save_last_k"
    " every_n_train_steps".split()
)
# Several arguments belong together.
NEEDS = {
    "DynamicNTK": {"factor": 2, "original_context": 8},
    "LinearScaling": {"factor": 2},
    "YaRN": {"factor": 2, "original_context": 8},
    "Llama3Scaling": {"factor": 2, "low_freq_factor": 1, "high_freq_factor": 4, "original_context": 8},
    "LongRoPE": {"short_factor": [1.0] * 4, "long_factor": [1.0] * 4, "original_context": 8},
    "Length": {"min_chars": 1, "max_chars": 10**6},
    "Language": {"only": ["en"]},
    "BestCheckpoint": {"dirpath": "there"},
    "LastCheckpoint": {"dirpath": "there"},
    "CSVLog": None,  # fit makes them by itself
    "TrainingProgressBar": None,
    "Mixture": None,  # its weights are a dict, and are checked with its sources
    "Download": None,
}


def numbers(hint: Any) -> set[type]:
    if hint in (int, float):
        return {hint}
    inner = typing.get_args(hint) if typing.get_origin(hint) is not typing.Literal else ()
    return set().union(*map(numbers, inner)) if inner else set()


def arguments(cls: Any, key: str, words: tuple[str, ...], seen: set[Any]) -> Iterator[tuple[Any, str, Any, tuple]]:
    """Class, dotted key, type and the words that lead there, of each argument that takes a number."""
    if cls in seen or NEEDS.get(cls.__name__, {}) is None or cls.__name__ in ("Tensor", "Corpus", "Sizes"):
        return
    seen.add(cls)
    try:
        hints = typing.get_type_hints(cls.__init__)
        signature = inspect.signature(cls)
    except (TypeError, ValueError, NameError):
        return
    for name in signature.parameters:
        if name in GIVEN or f"{name} of {cls.__name__}" in GIVEN or name not in hints:
            continue
        if numbers(hints[name]):
            yield cls, f"{key}.{name}", hints[name], words
        for base in components(hints[name]):
            for inner in with_subclasses(base.base):
                if not inner.__module__.startswith("lit_gpt."):
                    continue  # torch's own are checked by name, see below
                path = f"{key}.{name}"
                needs = NEEDS.get(inner.__name__) or {}
                chosen = (f"--{path}={inner.__name__}", *(f"--{path}.{n}={v}" for n, v in needs.items()))
                yield from arguments(inner, path, (*words, *chosen), seen)


def every() -> dict[str, tuple[Any, str, Any, tuple]]:
    import_components()
    seen: set[Any] = set()
    found = [one for section, cls in SECTIONS.items() for one in arguments(cls, section, (), seen)]
    return {f"{key} of {cls.__name__}": (cls, key, hint, words) for cls, key, hint, words in found}


EVERY = every()


def nonsense(name: str) -> list[str]:
    cls, key, hint, _ = EVERY[name]
    word = key.rpartition(".")[2]
    listed = typing.get_origin(hint) in (list, tuple, dict)
    values = [] if word in NEGATIVE_IS_FINE else ["-1"]
    values += ["0"] if word in ZERO_IS_NONSENSE else []
    if float in numbers(hint):
        values += [".nan", ".inf"]
    if listed:
        values = [f"[{value}]" if typing.get_origin(hint) is not dict else f"{{a: {value}}}" for value in values]
    if word == "param_groups":
        values = [f"{{vectors: {{lr: {value}}}}}" for value in ("-1", ".nan", ".inf")]
    default = inspect.signature(cls).parameters[word].default
    null = type(None) in typing.get_args(hint) or default is None
    return values if null else [*values, "null"]


def test_there_are_as_many_numbers_as_there_were() -> None:
    assert len(EVERY) > 100 and {"model.net.width of GPT", "trainer.gradient_clip_val of Trainer"} <= EVERY.keys()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_file: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_bytes(text_file.read_bytes())
    return tmp_path


def refused(words: list[str], name: str, capsys: Any) -> None:
    said = [*TINY, "--data.source.paths=text.txt", *words]
    assert main(["fit", *said]) == 2, words
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("lit-gpt: error: ") and name in error, f"{words}: {error}"
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_number_is_refused_by_name(name: str, here: Path, capsys: Any) -> None:
    _, key, _, words = EVERY[name]
    for value in nonsense(name):
        refused([*words, f"--{key}={value}"], key.rpartition(".")[2], capsys)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.gradient_clip_val", "-1"), ("trainer.accumulate_grad_batches", "0"), ("model.net.width", "null"),
        ("trainer.val_check_interval", "0"), ("model.optimizer.betas", "[0.9, 1.0]"), ("model.net.attention", "null"),
    ],
)  # fmt: skip
def test_a_number_that_makes_no_sense_is_refused_by_name(key: str, value: str, here: Path, capsys: Any) -> None:
    refused([f"--{key}={value}"], f"--{key}: expected ", capsys)


def test_a_file_is_named_with_its_line_and_prepare_checks_too(here: Path, capsys: Any) -> None:
    Path("a.yaml").write_text(
        "data:\n  source: {class_path: TextFiles, init_args: {paths: text.txt}}\n  batch_size: .inf\n"
    )
    Path("b.yaml").write_text("trainer:\n  max_steps: 3\n  gradient_clip_val: .nan\n")
    Path("c.yaml").write_text(
        "data:\n  filters:\n    - {class_path: Length, init_args: {min_chars: 1}}\n  val_fraction: 1.0\n"
    )
    assert main(["fit", "--config=b.yaml"]) == 2
    assert "b.yaml:3: trainer.gradient_clip_val: expected a " in capsys.readouterr().err
    assert main(["prepare", "--config=c.yaml"]) == 2
    assert (
        "c.yaml:4: data.val_fraction: expected a number of at least 0 and below 1, got 1.0" in capsys.readouterr().err
    )


class Outside:
    """Of a package that is neither ours nor torch's: its `rate` may be anything but NaN."""

    def __init__(self, rate: float = 1.0) -> None: ...


def test_limits_hold_their_ends() -> None:
    def check(key: str, value: Any, cls: type | None = None) -> None:
        section, _, name = key.partition(".")
        limits.check({section: {name: value}}, {section: cls or SECTIONS[section]}, lambda key: key)

    for key, value in [
        ("trainer.max_steps", -1), ("trainer.limit_val_batches", 5), ("trainer.limit_val_batches", 1.0),
        ("trainer.limit_val_batches", 0), ("trainer.gradient_clip_val", 0), ("trainer.gradient_clip_val", None),
        ("trainer.val_check_interval", "00:01:00"), ("trainer.fast_dev_run", True), ("data.val_fraction", 0.0),
    ]:  # fmt: skip
        check(key, value)
    for key, value in [
        ("trainer.max_steps", 0), ("trainer.limit_val_batches", 1.5), ("trainer.limit_val_batches", -1),
        ("trainer.log_every_n_steps", -1), ("trainer.max_epochs", 0), ("trainer.val_check_interval", 1.5),
        ("data.val_fraction", 1.0),
        ("model.param_groups", {"vectors": {"lr": float("nan")}}),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=key):
            check(key, value)
    check("mine.rate", -5.0, Outside)
    with pytest.raises(UserError, match="mine.rate"):
        check("mine.rate", float("inf"), Outside)
