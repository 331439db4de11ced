"""The guides for adding an exchange and a metric quote code that is tested."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDES = {"adding-an-exchange.md": 10, "adding-a-metric.md": 3}  # with the least number of quotes
QUOTE = re.compile(r"^```(?:python|toml)\n# (\S+)\n(.*?)\n```$", re.DOTALL | re.MULTILINE)


def read(guide):
    return (ROOT / "docs" / guide).read_text(encoding="utf-8")


QUOTES = [(guide, path, quote) for guide in GUIDES for path, quote in QUOTE.findall(read(guide))]


@pytest.mark.parametrize(("path", "quote"), [quote[1:] for quote in QUOTES], ids=[quote[1] for quote in QUOTES])
def test_quotes_are_code_of_the_made_up_exchanges(path, quote):
    packages = [folder for folder in (ROOT / "tests" / "made_up").iterdir() if (folder / path).exists()]
    assert [package.name for package in packages if quote in (package / path).read_text(encoding="utf-8")]


@pytest.mark.parametrize("guide", GUIDES)
def test_all_code_is_quoted(guide):
    blocks = re.findall(r"^```(?:python|toml)$", read(guide), re.MULTILINE)
    assert len(QUOTE.findall(read(guide))) == len(blocks) >= GUIDES[guide]
