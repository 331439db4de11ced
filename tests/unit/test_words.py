"""Retired words stay away: names that told a reader nothing, and a private dialect."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("fademoe", "docs", "conf", "scripts", "strategies", "tests", "bench", "examples")
SUFFIXES = {".py", ".md", ".html", ".js", ".sql", ".lua", ".conf", ".toml"}
RETIRED = (
    r"ripe\(",
    r"perish",
    r"\b(SPARE_S|GO_ON_S|STAY_MS|DOUBT_S|FINE_S|BETWEEN_S|LOOK_S|END_S|ANSWER_S|WORK_S)\b",
    r"\b(DESERTED|HOPELESS|JOINED)\b",
    r"\b(hurried|befallen|unswitchable|told_apart|doubt_list|give_up_missed|keep_house)\b",
    r"\b(in vain|last breath|order of the eye|in good order|makes the work anew)\b",
    r"^ *(told|said) = ",
    r"\b(doubted|somebody|whoever|everybody|anybody|anew|patiently|be had|two looks)\b|_believed|_given_up",
    r"is no parameter|is nothing here|nothing is at|nothing was stopped|nothing can be had",
)


def test_no_retired_word_comes_back():
    """Migrations are history and stay as they are."""
    texts = [
        path
        for name in FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.suffix in SUFFIXES and path.parent.name != "migrations" and path != Path(__file__)
        if not path.is_relative_to(ROOT / "bench" / "data")  # what benchmarks download
    ] + [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    retired = re.compile("|".join(RETIRED), re.MULTILINE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if retired.search(line)
    ]
    assert len(texts) > 400
    assert not found
