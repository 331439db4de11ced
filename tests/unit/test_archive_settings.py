"""FADEMOE_ARCHIVES: off by default, and the terms are named before any request is sent to an archive."""

import pytest

from fademoe.cli.environment import load_settings
from fademoe.cli.main import main
from fademoe.errors import ConfigError
from fademoe.feeds import registry


def select(text):
    return registry.select_archives(load_settings({"FADEMOE_ARCHIVES": text}))


def test_nothing_is_allowed_by_default():
    assert registry.select_archives(load_settings({})) == {}
    assert select("none") == {}
    assert list(select("binance:cc-by-nc-sa,okx")) == ["binance", "okx"]


@pytest.mark.parametrize("text", ["binance", "binance:mit", "okx,binance:", "okx:yes", "bybit", "nope"])
def test_a_wrong_word_names_the_terms(text, monkeypatch, capsys):
    monkeypatch.setenv("FADEMOE_ARCHIVES", text)
    assert main(["settings"]) == 2
    message = capsys.readouterr().err
    assert "FADEMOE_ARCHIVES" in message
    if "binance" in text:
        assert "CC BY-NC-SA 4.0" in message
        assert "https://data.binance.vision/Binance_Vision-Terms_of_Use.pdf" in message
        assert "binance:cc-by-nc-sa" in message


def test_addresses_keep_their_path():
    settings = load_settings({"FADEMOE_OKX_ARCHIVE_URL": "http://127.0.0.1:9/cdn/okex/traderecords/"})
    assert settings.archive_urls == {"okx": "http://127.0.0.1:9/cdn/okex/traderecords"}
    with pytest.raises(ConfigError, match="FADEMOE_OKX_ARCHIVE_URL"):
        load_settings({"FADEMOE_OKX_ARCHIVE_URL": "127.0.0.1:9"})
