"""Rules that are written by a form: the same checks as those of a file."""

import json
from collections.abc import Mapping
from dataclasses import replace

from fademoe.alerts.rules import Rule, parse_rule_file
from fademoe.web.problem import Problem

FILE = "page.toml"  # owns the rules that are written by the page
LISTS = ("codes", "symbols")


def make_rule(values: Mapping[str, str]) -> Rule:
    """Return the rule of a form's texts; raise the 400 that names every fault. `codes`, `symbols`: comma lists."""
    lines = ["[[rule]]"]
    for key, text in values.items():
        if not text.strip():
            continue
        if key in LISTS and text.strip() != "all":
            names = [part.strip() for part in text.split(",") if part.strip()]
            lines.append(f"{key} = {json.dumps(names)}")
        else:
            lines.append(f"{key} = {json.dumps(text.strip(), ensure_ascii=False)}")
    content = parse_rule_file("\n".join(lines))
    if content.faults:
        messages = [replace(fault, line=0).describe("").removeprefix(": ") for fault in content.faults]
        raise Problem(400, "; ".join(messages), parameter=content.faults[0].key, faults=messages)
    return content.rules[0]
