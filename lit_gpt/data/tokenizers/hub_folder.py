"""A tokenizer's folder of the Hugging Face world as plain data: files, the pipeline they mean, ids of special tokens.

Knows: which files there are and what they say. No code that lies in a folder is run or imported, whatever its settings
name. Does not know: how ids are made here.
"""

import json
from pathlib import Path
from typing import Any

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.progress import say
from lit_gpt.data.tokenizers.tokenizer_json import as_json, bos_ahead
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
    """What `Pretrained` is restored from.

    Args:
        folder: Where the files lie.
        config: What config.json says; read from the folder by default.
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
    made = _made(content, folder)  # says what is wrong with the file itself
    listed = without_vocabulary(made)["added_tokens"]
    added = _added_tokens(folder, settings, content)
    if name is not None:
        built = rebuilt(name, content, settings)
        inner = _made(built, folder)
        _add(inner, added)
        if MAIN in files and _changed(made, inner):
            say(f"{folder / MAIN} is read as transformers reads it: {name} splits text in its own way")
    else:
        inner = made
        given = isinstance(settings.get("added_tokens_decoder"), dict)  # then it says all their properties
        _add(inner, [token for token in added if given or inner.token_to_id(token["content"]) is None])
    _add(inner, _named(inner, settings, special, "".join(templates_of(files, folder).values())))
    roles = _roles(inner, settings, special, generation, config)
    pipeline = without_vocabulary(inner)
    if MAIN not in files:
        if settings.get("add_bos_token") and "bos" in roles:
            pipeline["post_processor"] = bos_ahead(inner.id_to_token(roles["bos"]), roles["bos"])
        files[MAIN] = as_json(with_vocabulary(pipeline, content))
    same = name is None and pipeline["added_tokens"] == listed
    return {
        "files": files,
        "pipeline": None if same else pipeline,
        "roles": roles,
        "stop": _stop(inner, roles, generation, config),
    }


def conflicting_class(files: dict[str, str], model_type: str) -> str | None:
    """The class of transformers that would make other ids of these files beside a model of this type; None: none.

    Args:
        files: Names and texts, as of `Tokenizer.hub_files`.
        model_type: That of the config.json beside them.
    """
    settings, content = parsed(files, None, SETTINGS), parse_json(files[MAIN])
    name = effective_class(settings.get("tokenizer_class"), model_type, '"ByteLevel"' in _head(content))
    if name is None:
        return None
    if content["model"].get("type") != "BPE":
        return name
    folder = Path(MAIN)
    made, built = _made(content, folder), _made(rebuilt(name, content, settings), folder)
    flags = [{key: value or None for key, value in without_vocabulary(one)["model"].items()} for one in (made, built)]
    return name if _changed(made, built) or flags[0] != flags[1] else None


def template_files(folder: Path) -> dict[str, str]:
    """The files of a folder that hold chat templates alone."""
    names = [TEMPLATE, *(f"{TEMPLATES}/{file.name}" for file in sorted((folder / TEMPLATES).glob("*.jinja")))]
    return {name: text for name in names if (text := _text(folder / name))}


def templates_of(files: dict[str, str], folder: Path | None) -> dict[str, str]:
    """The chat templates by name, a single one as "default"; files of their own come before the settings.

    Args:
        files: Names and texts.
        folder: Where they lie, for errors.

    Raises:
        UserError: The settings have something else in the place of a template.
    """
    own = {"default": files[TEMPLATE]} if TEMPLATE in files else {}
    prefix = f"{TEMPLATES}/"
    own |= {Path(name).stem: text for name, text in files.items() if name.startswith(prefix)}
    if own:
        return own
    said = parsed(files, folder, SETTINGS).get("chat_template")
    if said is None or isinstance(said, str):
        return {"default": said} if said else {}
    try:
        listed = said if isinstance(said, dict) else {one["name"]: one["template"] for one in said}
        if not all(isinstance(text, str) for pair in listed.items() for text in pair):
            raise TypeError
    except (TypeError, KeyError):
        where = SETTINGS if folder is None else folder / SETTINGS
        raise UserError(
            f"{where}: chat_template is neither a text nor a list of texts by name; mend the file"
        ) from None
    return dict(listed)


def parsed(files: dict[str, str], folder: Path | None, name: str) -> dict[str, Any]:
    """The values of a JSON file, none where it is missing.

    Raises:
        UserError: it is not JSON.
    """
    try:
        content = parse_json(files.get(name) or "{}")
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except ValueError as fault:
        raise UserError(f"{name if folder is None else folder / name} is damaged ({fault}); get it again") from None
    return content


def without_vocabulary(inner: Any) -> dict[str, Any]:
    """All of a tokenizer's JSON but what makes it large."""
    content: dict[str, Any] = parse_json(inner.to_str())
    content["model"] = {key: value for key, value in content["model"].items() if key not in ("vocab", "merges")}
    return content


def with_vocabulary(pipeline: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """The pipeline with the vocabulary of another tokenizer's JSON."""
    return {**pipeline, "model": {**content["model"], **pipeline["model"]}}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{file} cannot be read ({fault}); get it again") from None


def _head(content: dict[str, Any]) -> str:
    return json.dumps([content.get("pre_tokenizer"), content.get("decoder")])


def _from_vocabulary(folder: Path) -> dict[str, Any]:
    """GPT-2's two files as one tokenizer.json, with nothing but the vocabulary in it yet."""
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


def _made(content: dict[str, Any], folder: Path) -> Any:
    from tokenizers import Tokenizer as Inner

    try:
        return Inner.from_str(json.dumps(content))
    except Exception as fault:  # the library raises nothing more special
        raise UserError(f"the tokenizer in {folder} cannot be used: {fault}; get it again") from None


def _added_tokens(folder: Path, settings: dict[str, Any], content: dict[str, Any]) -> list[dict[str, Any]]:
    """Tokens outside the model's vocabulary, in the order of their ids; the settings go before tokenizer.json."""
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
    """Special tokens that the settings name and tokenizer.json does not list, in the order in which they get ids.

    Words of the vocabulary become special; new ones are added as far as the chat template needs them, as a model may
    have no row for the others.
    """
    if isinstance(settings.get("added_tokens_decoder"), dict):
        special = {}
    named = [place.get(f"{role}_token") for role in _NAMED for place in (settings, special)]
    named += [value for key, value in settings.items() if key.endswith("_token")]
    for place in (settings, special):
        for key in ("extra_special_tokens", "additional_special_tokens"):
            more = place.get(key)
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


def _changed(old: Any, new: Any) -> bool:
    """Whether text is split otherwise than the file says."""
    parts = [without_vocabulary(inner) for inner in (old, new)]
    ways = [json.dumps([one[key] for key in ("normalizer", "pre_tokenizer")], sort_keys=True) for one in parts]
    ways = [way.replace('"trim_offsets": false', '"trim_offsets": true') for way in ways]
    return ways[0] != ways[1]


def _roles(inner: Any, settings: Any, special: Any, generation: Any, config: Any) -> dict[str, int]:
    """Ids of bos, eos, pad and unk, from the first place that names one that there is."""
    highest = max(inner.get_vocab(with_added_tokens=True).values(), default=-1)
    roles: dict[str, int] = {}
    for role in ROLES:
        texts = [text_of(place.get(f"{role}_token")) for place in (settings, special)]
        found = [inner.token_to_id(text) for text in texts if text]
        if not found:  # named nowhere: null in the settings means that there is none
            found = [id for place in (config, generation) for id in _ids(place.get(f"{role}_token_id"))[:1]]
            if f"{role}_token" in settings:
                found = []
        known = [id for id in found if id is not None and 0 <= id <= highest and inner.id_to_token(id) is not None]
        if known:
            roles[role] = known[0]
    return roles


def _stop(inner: Any, roles: dict[str, int], generation: Any, config: Any) -> list[int]:
    """All ids that end a text."""
    ids = _ids(generation.get("eos_token_id")) or _ids(config.get("eos_token_id"))
    ids += [roles["eos"]] if "eos" in roles else []
    return sorted({id for id in ids if id >= 0 and inner.id_to_token(id) is not None})


def _ids(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, int) and not isinstance(one, bool)]
