"""The documents name everything that a user can set, call or collect."""

import re
from pathlib import Path

import pytest

from fademoe.cli.main import COMMANDS
from fademoe.feeds import registry
from fademoe.metrics import METRICS
from fademoe.settings import Settings, list_declared_settings
from fademoe.web.app import create_app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
INTERNAL = ("/rq", "/static", "/control", "/login", "/logout")  # what pages use by themselves


@pytest.mark.parametrize("setting", list_declared_settings().values(), ids=lambda setting: setting.variable)
def test_every_setting_is_documented_with_its_default_and_meaning(setting):
    assert f"\n| `{setting.variable}` | {setting.default_text} | {setting.help} |\n" in OPERATING


def test_no_setting_is_documented_that_does_not_exist():
    names = [*registry.list_names(), "acmepost"]  # the example in docs/adding-an-exchange.md
    valid = {
        variable
        for item in list_declared_settings().values()
        for variable in (item.variable, *item.list_variables(names))
    }
    valid |= {"FADEMOE_", "FADEMOE_TEST_TIMESCALE_URL"}
    for document in DOCUMENTS:
        assert set(re.findall(r"FADEMOE_[A-Z_]*", document.read_text(encoding="utf-8"))) <= valid, document.name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command):
    rows = [line.split("|")[1] for line in OPERATING.splitlines() if line.startswith("| ")]
    assert any(command in re.split(r"[, ]+", row.strip()) for row in rows)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_documented_with_its_columns(metric):
    (row,) = (line for line in README.splitlines() if line.startswith(f"| {metric}: "))
    listed = re.split(r"[ ,]+", row.split("|")[2].strip())
    assert listed == [column.name for column in METRICS[metric].columns]


@pytest.mark.parametrize("exchange", registry.load_exchanges().values(), ids=lambda exchange: exchange.name)
def test_every_exchange_is_documented_with_its_codes(exchange):
    header = next(line for line in README.splitlines() if line.startswith("| metric"))
    assert exchange.title in header
    assert all(f"`{code}-`" in header for code in exchange.codes)


def test_every_route_of_the_api_is_documented(tmp_path):
    app = create_app(Settings(home=tmp_path))
    rules = {re.sub(r"<\w+:", "<", rule.rule) for rule in app.url_map.iter_rules()}
    rules = {rule for rule in rules if not rule.startswith(INTERNAL)}
    api = {rule for rule in rules if rule.startswith(("/api/", "/metric", "/health"))}
    assert len(api) > 10
    documented = OPERATING.replace("\\", "")
    assert [rule for rule in sorted(api) if not re.search(rf"{re.escape(rule)}[?, |]", documented)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_link_of_a_document_leads_to_a_file(document):
    text = document.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_every_file_that_the_architecture_names_exists():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./])(?:[a-z_]+/)+[a-z_]+\.py", text))
    assert len(named) > 30
    assert [
        name for name in sorted(named) if not (ROOT / "fademoe" / name).exists() and not (ROOT / name).exists()
    ] == []


def test_the_readme_is_short():
    assert len(README.splitlines()) < 120
