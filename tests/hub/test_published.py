"""Models as they were published: their config.json alone gives the right net, whichever version's fields it has."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published import PUBLISHED
from transformers import AutoConfig, AutoModelForCausalLM

from lit_gpt.errors import UserError
from lit_gpt.hub.families import ARCHITECTURES, recognize
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.importer import HFModel, read_model
from lit_gpt.hub.net_config import differences, layers

VALUES = PUBLISHED.values()
MPT_OF_OLD = {"MPTForCausalLM": "MptForCausalLM"}
each = pytest.mark.parametrize("name", PUBLISHED)


def read(fields: dict[str, Any], folder: Path) -> HFModel:
    """What a folder with this config.json and nothing else says."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    return read_model(folder)


def theirs(fields: dict[str, Any]) -> Any:
    """transformers' own reading of the fields."""
    return AutoConfig.for_model(**{name: value for name, value in fields.items() if name != "auto_map"})


@each
def test_number_of_parameters(name: str, tmp_path: Path) -> None:
    fields, count = PUBLISHED[name]
    net = read(fields, tmp_path).net
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(theirs(fields))
    model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@each
def test_older_fields_mean_what_transformers_makes_of_them(name: str, tmp_path: Path) -> None:
    fields, _ = PUBLISHED[name]
    newer = theirs(fields).to_dict() | {"architectures": fields["architectures"]}
    assert newer.get("rope_parameters") or "rope_theta" not in fields  # it has moved them
    one, other = (layers(read(each, tmp_path).arguments) for each in (fields, newer))
    assert differences(one, other) == []


ODD = ["x", -1, 0, 1.5, True, [], [1], {}, {"a": 1}, float("nan"), float("inf")]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_field_of_a_wrong_kind_is_refused_or_means_nothing(architecture: str) -> None:
    """Never a traceback, and never a net of sizes that are no numbers."""
    named = {MPT_OF_OLD.get(fields["architectures"][0], fields["architectures"][0]): fields for fields, _ in VALUES}
    fields = named[architecture]
    for name in fields:
        for odd in ODD:
            changed = fields | {name: odd}
            try:
                arguments = recognize(changed, "config.json").read(HFConfig(changed, "config.json"))
            except UserError as refused:
                assert name in str(refused) or (name == "rope_scaling" and "rotary" in str(refused)), (name, odd)
                continue
            for size in ("vocab_size", "width", "depth", "heads", "context"):
                assert isinstance(arguments[size], int) and arguments[size] > 0, (name, odd)
