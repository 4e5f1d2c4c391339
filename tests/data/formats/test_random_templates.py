"""Random chat templates and conversations: ids of transformers, and never a token of a prompt in the loss."""

import random
from pathlib import Path

import numpy as np
import pytest
from own_templates import unmarked
from test_own_templates import KINDS, Pair, pairs  # noqa: F401  # a fixture

from lit_gpt.errors import UserError

HEADERS = ["<|im_start|>%s\n", "<|start|>%s<|message|>", "### %s:\n", "%s: ", "\n%s: ", "[%s]", "<turn>%s\n"]
ENDS = ["<|im_end|>", "<|end|>", "</turn>", "</s>", "\n\n", "\n"]
LEADS = ["", "{{ bos_token }}", "{% if messages[0].role != 'system' %}System prompt.\n{% endif %}"]
PARTS = ["a", "the cat", " ", "\n", "\n\n", "dog.", "  x", "é", "道", "1234", "USER:", "### assistant:\n", "{% x %}"]
PARTS += ["assistant", "?", "b", "<think>", "</think>"]


def quoted(text: str) -> str:
    return "'" + text.replace("\n", "\\n") + "'"


def template(draw: random.Random) -> str:
    """A template whose parts are drawn: headers, ends of turns, what asks, what becomes of thoughts."""
    before, behind = draw.choice(HEADERS).split("%s")
    end = draw.choice(ENDS)
    # White space behind an end of white space cannot be told from it.
    between = draw.choice(["", "\n", "\n\n"]) if end.strip() else ""
    last_end, last_between = draw.choice([end] * 4 + ["<|return|>"]), draw.choice([between, ""])
    name, trim = draw.choice(["assistant", "model", "ASSISTANT"]), draw.choice(["", "| trim"])
    asks, thoughts = (
        draw.choice(["header", "header", "opened", "none"]),
        draw.choice(["kept", "dropped", "old", "added"]),
    )

    def header(role: str) -> str:
        return f"{quoted(before)} + {role} + {quoted(behind)}"

    made = [draw.choice(LEADS), "{%- for m in messages %}{%- if m.role == 'assistant' %}{%- set c = m.content %}"]
    if thoughts in ("dropped", "old"):
        only = " and not loop.last" if thoughts == "old" else ""
        made.append(f"{{%- if '</think>' in c{only} %}}{{% set c = c.split('</think>')[-1] %}}{{% endif %}}")
    made.append(f"{{{{- {header(quoted(name))} }}}}{{% generation %}}")
    if thoughts == "added" and asks != "none":
        made.append("{%- if loop.last and '<think>' not in c %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}")
    made.append(
        f"{{{{- c {trim} }}}}{{{{ {quoted(last_end)} if loop.last and not add_generation_prompt else {quoted(end)} }}}}"
    )
    made.append(f"{{% endgeneration %}}{{{{ {quoted(last_between)} if loop.last else {quoted(between)} }}}}")
    user_end = draw.choice([end, end, "", "\n"])
    made.append(
        f"{{%- else %}}{{{{ {header('m.role')} + m.content {trim} + {quoted(user_end + between)} }}}}{{% endif %}}"
    )
    made.append("{%- endfor %}")
    if asks != "none":
        opened = " + '<think>\\n'" if asks == "opened" else ""
        made.append(f"{{%- if add_generation_prompt %}}{{{{ {header(quoted(name))}{opened} }}}}{{% endif %}}")
    if draw.random() < 0.2:
        made.append("{%- if not add_generation_prompt %}{{ '<|call|>' }}{% endif %}")
    return "".join(made)


def content(draw: random.Random) -> str:
    return "".join(draw.choices(PARTS, k=draw.randint(1, 5))) + draw.choice(["end", "x", "."])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_prompts_are_never_trained_on(seed: int, pairs: dict[tuple[str, bool], Pair], tmp_path: Path) -> None:  # noqa: F811
    draw = random.Random(seed)
    done = refused = short = 0
    for _ in range(60):
        marked = template(draw)
        pair = pairs[draw.choice(KINDS), False]
        for _ in range(3):
            messages = [{"role": "system", "content": content(draw)}] if draw.random() < 0.4 else []
            roles = [draw.choice(["user", "assistant", "user", "assistant", "tool"]) for _ in range(draw.randint(1, 5))]
            messages += [{"role": role, "content": content(draw)} for role in (*roles, "assistant")]
            plain = unmarked(marked)
            ids, mask = pair.ids(plain, messages, None), np.array(pair.mask(marked, messages, None))
            for one in (plain, marked):
                done += 1
                try:
                    made, trained = pair.encoded(one, messages, None)
                except UserError:
                    refused += 1
                    assert one == plain, "what is marked is found"
                    continue
                assert made == ids
                missing, more = mask > np.array(trained), mask < np.array(trained)
                assert not more.any(), (one, messages)
                short += bool(missing.any())
                assert one == plain or not missing.any()
    # Ends that are nothing but white space, and templates that cannot be read in one way alone.
    assert refused <= 0.05 * done and short <= 0.05 * done, (done, refused, short)
