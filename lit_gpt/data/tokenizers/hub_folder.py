"""Tokenizer folders of the Hugging Face hub as plain data: files, pipeline, ids of special tokens. No code is run."""

import json
from pathlib import Path
from typing import Any

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.progress import say
from lit_gpt.data.tokenizers.added_tokens import pipeline_of
from lit_gpt.data.tokenizers.tokenizer_json import as_json, bos_template
from lit_gpt.data.tokenizers.transformers_classes import effective_class, rebuilt, text_of
from lit_gpt.errors import UserError

MAIN, SETTINGS, SPECIAL = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"
TEMPLATES = "additional_chat_templates"
ROLES = ("bos", "eos", "pad", "unk")
_NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order of transformers
_ADDED = "added_tokens.json"
_PROPERTIES = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_folder(folder: Path, config: dict[str, Any] | None = None, as_transformers: bool = True) -> dict[str, Any]:
    """The state that `Pretrained` is restored from.

    Args:
        folder: The folder.
        config: The content of config.json; read from the folder by default.
        as_transformers: See `Pretrained`.

    Raises:
        UserError: a file is missing or is not what its name says.
    """
    files = {name: text for name in (MAIN, SETTINGS, SPECIAL, GENERATION) if (text := _text(folder / name))}
    files |= template_files(folder)
    settings, special, generation = (parsed(files, folder, name) for name in (SETTINGS, SPECIAL, GENERATION))
    config = parsed({"config.json": _text(folder / "config.json")}, folder, "config.json") if config is None else config
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if MAIN in files:
        content = parsed(files, folder, MAIN)
        if not isinstance(content.get("model"), dict) or "added_tokens" not in content:
            raise UserError(f"{folder / MAIN} is not of the tokenizers library: it has no model; give another folder")
        name = effective_class(named, config.get("model_type"), '"ByteLevel"' in _head(content))
        name = name if as_transformers and content["model"].get("type", "BPE") == "BPE" else None
    else:
        content = _from_vocabulary(folder)
        name = effective_class(named, config.get("model_type"), True) or "GPT2Tokenizer"
    inner = from_content(content, folder)  # raises for an error of the file itself
    listed = pipeline_of(inner)["added_tokens"]
    added = _added_tokens(folder, settings, content)
    if name is not None:
        as_file, inner = inner, from_content(rebuilt(name, content, settings), folder)
        _add(inner, added)
        if MAIN in files and _splitting(as_file) != _splitting(inner):
            say(f"{folder / MAIN} is read as transformers reads it: {name} splits text in its own way")
    else:
        complete = isinstance(settings.get("added_tokens_decoder"), dict)  # with all properties of the tokens
        _add(inner, [token for token in added if complete or inner.token_to_id(token["content"]) is None])
    _add(inner, _named(inner, settings, special, "".join(templates_of(files, folder).values())))
    roles = _roles(inner, settings, special, generation, config)
    pipeline = pipeline_of(inner)
    if MAIN not in files:
        if settings.get("add_bos_token") and "bos" in roles:
            pipeline["post_processor"] = bos_template(inner.id_to_token(roles["bos"]), roles["bos"])
        files[MAIN] = as_json(with_vocabulary(pipeline, content))
    return {
        "files": files,
        "pipeline": None if name is None and pipeline["added_tokens"] == listed else pipeline,
        "roles": roles,
        "stop": _stop(inner, roles, generation, config),
    }


def conflicting_class(files: dict[str, str], model_type: str) -> str | None:
    """The class of transformers that would make other ids of these files beside a model of this type, or None."""
    settings, content = parsed(files, None, SETTINGS), parse_json(files[MAIN])
    name = effective_class(settings.get("tokenizer_class"), model_type, '"ByteLevel"' in _head(content))
    if name is None:
        return None
    if content["model"].get("type") != "BPE":
        return name
    inners = [from_content(one, Path(MAIN)) for one in (content, rebuilt(name, content, settings))]
    models = [{key: value or None for key, value in pipeline_of(inner)["model"].items()} for inner in inners]
    return name if _splitting(inners[0]) != _splitting(inners[1]) or models[0] != models[1] else None


def template_files(folder: Path) -> dict[str, str]:
    """The files of a folder that hold chat templates alone."""
    names = [TEMPLATE, *(f"{TEMPLATES}/{file.name}" for file in sorted((folder / TEMPLATES).glob("*.jinja")))]
    return {name: text for name in names if (text := _text(folder / name))}


def templates_of(files: dict[str, str], folder: Path | None) -> dict[str, str]:
    """The chat templates by name, a single one as "default"; separate files take precedence over the settings.

    Args:
        files: Texts by name.
        folder: Their folder, for errors.

    Raises:
        UserError: chat_template of the settings is no template.
    """
    separate = {"default": files[TEMPLATE]} if TEMPLATE in files else {}
    separate |= {Path(name).stem: text for name, text in files.items() if name.startswith(f"{TEMPLATES}/")}
    if separate:
        return separate
    value = parsed(files, folder, SETTINGS).get("chat_template")
    if value is None or isinstance(value, str):
        return {"default": value} if value else {}
    try:
        listed = value if isinstance(value, dict) else {one["name"]: one["template"] for one in value}
        if not all(isinstance(text, str) for pair in listed.items() for text in pair):
            raise TypeError
    except (TypeError, KeyError):
        where = SETTINGS if folder is None else folder / SETTINGS
        raise UserError(f"{where}: chat_template is neither a text nor a list of texts by name; fix the file") from None
    return dict(listed)


def parsed(files: dict[str, str], folder: Path | None, name: str) -> dict[str, Any]:
    """The object of a JSON file, empty where it is missing.

    Raises:
        UserError: it is not JSON.
    """
    try:
        content = parse_json(files.get(name) or "{}")
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        raise UserError(f"{name if folder is None else folder / name} is damaged ({error}); get it again") from None
    return content


def with_vocabulary(pipeline: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """The pipeline with the vocabulary of another tokenizer's JSON."""
    return {**pipeline, "model": {**content["model"], **pipeline["model"]}}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); get it again") from None


def _head(content: dict[str, Any]) -> str:
    return json.dumps([content.get("pre_tokenizer"), content.get("decoder")])


def _from_vocabulary(folder: Path) -> dict[str, Any]:
    """vocab.json and merges.txt as a tokenizer.json of the vocabulary alone."""
    vocab, merges = _text(folder / "vocab.json"), _text(folder / "merges.txt")
    if not vocab or not merges:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; give one with a {MAIN}")
        if (folder / "tokenizer.model").exists():
            raise UserError(
                f"{folder} has a tokenizer.model of SentencePiece alone; give a folder that holds its {MAIN} too"
            )
        raise UserError(f"{folder} holds no tokenizer; give a folder with a {MAIN}, or with vocab.json and merges.txt")
    lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
    model = {"type": "BPE", "vocab": parsed({"vocab.json": vocab}, folder, "vocab.json"), "merges": lines}
    keys = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {"version": "1.0", **dict.fromkeys(keys), "added_tokens": [], "model": model}


def from_content(content: dict[str, Any], folder: Path) -> Any:
    """The library's tokenizer of a tokenizer.json; `folder` is for errors."""
    from tokenizers import Tokenizer as Inner

    try:
        return Inner.from_str(json.dumps(content))
    except Exception as error:  # the library raises no narrower class
        raise UserError(f"the tokenizer in {folder} cannot be used: {error}; get it again") from None


def _added_tokens(folder: Path, settings: dict[str, Any], content: dict[str, Any]) -> list[dict[str, Any]]:
    """Added tokens by id; the settings take precedence over tokenizer.json."""
    by_id: dict[int, dict[str, Any]] = {}
    listed = settings.get("added_tokens_decoder")
    if isinstance(listed, dict):
        by_id = {int(id): token for id, token in listed.items() if text_of(token)}
    else:
        for text, id in parsed({_ADDED: _text(folder / _ADDED)}, folder, _ADDED).items():
            by_id[int(id)] = {"content": text, "normalized": True}
        for token in content["added_tokens"]:
            by_id[int(token["id"])] = token
    return [by_id[id] for id in sorted(by_id)]


def _named(inner: Any, settings: Any, special: Any, template: str) -> list[dict[str, Any]]:
    """Special tokens that the settings name and tokenizer.json does not list, in the order of their new ids.

    Words of the vocabulary become special; new ones are added as far as the chat template needs them, as a model may
    have no embedding for the others.
    """
    if isinstance(settings.get("added_tokens_decoder"), dict):
        special = {}
    named = [values.get(f"{role}_token") for role in _NAMED for values in (settings, special)]
    named += [value for key, value in settings.items() if key.endswith("_token")]
    for values in (settings, special):
        for key in ("extra_special_tokens", "additional_special_tokens"):
            more = values.get(key)
            named += [*more.values()] if isinstance(more, dict) else more if isinstance(more, list) else []
    known = {token.content for token in inner.get_added_tokens_decoder().values()}
    by_text = {text: token for token in reversed(named) if (text := text_of(token)) and text not in known}
    tokens = [
        {**(by_text[text] if isinstance(by_text[text], dict) else {}), "content": text, "special": True}
        for text in dict.fromkeys(map(text_of, named))
        if text in by_text
    ]
    new = [token for token in tokens if inner.token_to_id(token["content"]) is None]
    needed = max((at + 1 for at, token in enumerate(new) if token["content"] in template), default=0)
    return [token for token in tokens if token not in new[needed:]]


def _add(inner: Any, added: list[dict[str, Any]]) -> None:
    from tokenizers import AddedToken

    for token in added:
        properties = {key: bool(token[key]) for key in _PROPERTIES if key in token}
        inner.add_tokens([AddedToken(token["content"], **properties)])


def _splitting(inner: Any) -> str:
    """How text is split, as text to compare."""
    pipeline = pipeline_of(inner)
    parts = json.dumps([pipeline["normalizer"], pipeline["pre_tokenizer"]], sort_keys=True)
    return parts.replace('"trim_offsets": false', '"trim_offsets": true')


def _roles(inner: Any, settings: Any, special: Any, generation: Any, config: Any) -> dict[str, int]:
    """Ids of bos, eos, pad and unk, from the first file that names them."""
    highest = max(inner.get_vocab(with_added_tokens=True).values(), default=-1)
    roles: dict[str, int] = {}
    for role in ROLES:
        texts = [text_of(values.get(f"{role}_token")) for values in (settings, special)]
        ids = [inner.token_to_id(text) for text in texts if text]
        if not ids and f"{role}_token" not in settings:  # null in the settings means that there is none
            ids = [id for values in (config, generation) for id in _ids(values.get(f"{role}_token_id"))[:1]]
        known = [id for id in ids if id is not None and 0 <= id <= highest and inner.id_to_token(id) is not None]
        if known:
            roles[role] = known[0]
    return roles


def _stop(inner: Any, roles: dict[str, int], generation: Any, config: Any) -> list[int]:
    """All ids that end generation."""
    ids = _ids(generation.get("eos_token_id")) or _ids(config.get("eos_token_id"))
    ids += [roles["eos"]] if "eos" in roles else []
    return sorted({id for id in ids if id >= 0 and inner.id_to_token(id) is not None})


def _ids(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, int) and not isinstance(one, bool)]
