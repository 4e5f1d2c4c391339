"""What settings from a file may name, by the type of its place."""

import collections.abc
from typing import Any

import pytest

from lit_gpt.config.class_paths import needed_trust
from lit_gpt.config.command_line import CommandLine
from lit_gpt.config.trust import check_untrusted, check_untrusted_arguments
from lit_gpt.data.module import TokenData
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.nn import Norm
from lit_gpt.train.module import LitGPT


def named(path: Any, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


GOOD: dict[str, tuple[type, dict[str, Any]]] = {
    "net": (LitGPT, {"net": named("lit_gpt.GPT", norm=named("lit_gpt.nn.RMSNorm", eps=1e-6))}),
    "list": (GPT, {"attention": [named("lit_gpt.nn.SelfAttention", qk_norm=named("lit_gpt.nn.RMSNorm"))]}),
    "optimizer": (LitGPT, {"optimizer": named("torch.optim.AdamW", lr=1.0, betas=[0.9, 0.95])}),
    "torch module": (LitGPT, {"net": named("lit_gpt.model.GPT", init="lit_gpt.nn.GPT2Init")}),
    "sources": (TokenData, {"extra_val": {"a": named("lit_gpt.data.TextFiles", paths="x.txt")}}),
    "mixture": (TokenData, {"source": named("lit_gpt.data.Mixture", sources={"a": named("lit_gpt.data.TextFiles")})}),
    "null": (TokenData, {"val_source": None, "filters": [named("lit_gpt.data.Length", min_chars=3)]}),
}
BAD: dict[str, tuple[type, dict[str, Any], str]] = {
    "function": (TokenData, {"tokenizer": named("torch.serialization.os.system", command="x")}, "not a component"),
    "package": (TokenData, {"tokenizer": named("my_package.Tokenizer")}, "LIT_GPT_TRUST=my_package"),
    "string": (LitGPT, {"objective": "os.system"}, "not a component"),
    "wrong type": (GPT, {"norm": named("lit_gpt.data.Byte")}, "where a subclass of Norm is expected"),
    "wrong type of torch": (LitGPT, {"optimizer": named("torch.nn.Linear")}, "subclass of Optimizer is expected"),
    "re-export": (
        TokenData,
        {"source": named("lit_gpt.train.run_folder.Path")},
        "pathlib.Path, which is not a component",
    ),
    "function of ours": (GPT, {"norm": named("lit_gpt.nn.attend")}, "which is not a class"),
    "file": (TokenData, {"tokenizer": "/tmp/inner.yaml"}, "is not the dotted path of a class"),
    "class at a number": (GPT, {"width": named("lit_gpt.nn.RMSNorm")}, "where a subclass of class is expected"),
    "nested": (LitGPT, {"net": named("lit_gpt.GPT", norm=named("os.system"))}, "os.system, which is not a component"),
    "nested in a list": (
        GPT,
        {"attention": [named("lit_gpt.nn.SelfAttention", qk_norm="os.getcwd")]},
        "not a component",
    ),
    "other arguments": (
        LitGPT,
        {"optimizer": {"class_path": "torch.optim.SGD", "dict_kwargs": {"a": named("os.x")}}},
        "not a component",
    ),
    "no arguments": (LitGPT, {"net": {"class_path": "lit_gpt.GPT", "init_args": "x.yaml"}}, "keys with values"),
}


@pytest.mark.parametrize("name", GOOD)
def test_components_of_the_right_type_may_be_named(name: str) -> None:
    owner, values = GOOD[name]
    check_untrusted_arguments(values, owner, "a file", "at")


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused(name: str) -> None:
    owner, values, says = BAD[name]
    with pytest.raises(UserError, match=says) as told:
        check_untrusted_arguments(values, owner, "a file", "at")
    assert str(told.value).startswith("a file: at.")


def test_callables_and_types_are_never_functions_of_a_file() -> None:
    for annotation in (collections.abc.Callable, collections.abc.Callable[[str], str], type, "Unknown | None"):
        with pytest.raises(UserError):
            check_untrusted(named("os.system"), annotation, "a file", "at")
    for annotation in (collections.abc.Callable, collections.abc.Callable[[str], str], type[Tokenizer], Norm | None):
        with pytest.raises(UserError):
            check_untrusted("os.getcwd", annotation, "a file", "at")
    check_untrusted("a.b.C", str, "a file", "at")
    check_untrusted("ddp", str | Norm, "a file", "at")


def test_no_word_of_the_users_makes_the_standard_library_a_component(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_GPT_TRUST", "os subprocess")
    with pytest.raises(UserError, match="os.system, which is not a component"):
        check_untrusted(named("os.system"), Norm, "a file", "at", trust=())


def test_loggers_of_a_file_are_refused_and_named_for_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch import Trainer

    values = {"logger": named("lightning.pytorch.loggers.CSVLogger", save_dir="x"), "callbacks": []}
    with pytest.raises(UserError, match="CSVLogger"):
        check_untrusted_arguments(values, Trainer, "a file", "trainer")
    assert needed_trust({"trainer": values, "model": named("my_lab.Louder")}) == ["lightning", "my_lab"]
    monkeypatch.setenv("LIT_GPT_TRUST", "lightning")
    check_untrusted_arguments(values, Trainer, "a file", "trainer")
    check_untrusted_arguments(
        {"callbacks": [named("lightning.pytorch.callbacks.EarlyStopping", monitor="x")]}, Trainer, "f", "t"
    )


def test_a_settings_file_that_was_not_typed_adds_no_trust(tmp_path: Any) -> None:
    (tmp_path / "config.yaml").write_text("model: {net: {class_path: my_lab.Net}}\n")
    command_line = CommandLine(["--model.optimizer=their_lab.Adam"])
    command_line.add_file(tmp_path / "config.yaml", lambda values: {})
    assert command_line.trust == {"their_lab"}
    assert CommandLine(["--config", str(tmp_path / "config.yaml")]).trust == {"my_lab"}
