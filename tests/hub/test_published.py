"""Models as they were published: their config.json alone gives the right net, whichever version's fields it has."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published import PUBLISHED
from transformers import AutoConfig, AutoModelForCausalLM

from lit_gpt.hub.incoming import Source, understand
from lit_gpt.hub.plan import differences, layers

each = pytest.mark.parametrize("name", PUBLISHED)


def read(fields: dict[str, Any], folder: Path) -> Source:
    """What a folder with this config.json and nothing else says."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    return understand(folder)


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
