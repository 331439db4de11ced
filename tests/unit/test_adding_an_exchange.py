"""docs/adding-an-exchange.md quotes code that is tested."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "adding-an-exchange.md").read_text(encoding="utf-8")
QUOTES = re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)\n```$", DOCUMENT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("path", "quote"), QUOTES, ids=[path for path, _ in QUOTES])
def test_quotes_are_code_of_the_made_up_exchanges(path, quote):
    packages = [folder for folder in (ROOT / "tests" / "made_up").iterdir() if (folder / path).exists()]
    assert [package.name for package in packages if quote in (package / path).read_text(encoding="utf-8")]


def test_all_code_is_quoted():
    assert len(QUOTES) == len(re.findall(r"^```(?:python|toml)$", DOCUMENT, re.MULTILINE)) > 10
