"""Settings from the environment."""

from pathlib import Path

import pytest

from fademoe.cli.edge import load_settings
from fademoe.errors import ConfigError


def test_defaults_need_no_variable():
    settings = load_settings({"PATH": "/bin"})
    assert settings.home == Path("var").resolve()
    assert settings.database_url is None
    assert settings.postgres_url.startswith("postgresql://fademoe@/fademoe?host=")
    assert settings.queue_url.endswith("run/redis.sock")
    assert settings.workers == 8
    assert len(settings.symbols) == 20
    assert (settings.web_host, settings.web_port) == ("127.0.0.1", 8000)
    assert not settings.simulated


def test_every_variable_is_read():
    settings = load_settings(
        {
            "FADEMOE_HOME": "/data/f",
            "FADEMOE_DATABASE_URL": "postgresql://u:secret@db/f",
            "FADEMOE_REDIS_URL": "redis://:hidden@r:6379/0",
            "FADEMOE_SYMBOLS": "btc, ETH,btc",
            "FADEMOE_EXCHANGES": "Binance",
            "FADEMOE_BINANCE_REST_URL": "http://127.0.0.1:9/",
            "FADEMOE_BINANCE_WS_URL": "ws://127.0.0.1:9",
            "FADEMOE_WORKERS": "3",
            "FADEMOE_EGRESS": "a=10.0.0.1,http://proxy:3128",
            "FADEMOE_WEB_PORT": "8001",
            "FADEMOE_ADMIN_TOKEN": "hush",
            "FADEMOE_RETENTION_DAYS": "30",
        }
    )
    assert settings.symbols == ("BTC", "ETH")
    assert settings.exchanges == ("binance",)
    assert settings.rest_urls == {"binance": "http://127.0.0.1:9"}
    assert settings.egress == (("a", "10.0.0.1"), ("http://proxy:3128", "http://proxy:3128"))
    assert settings.retention_days == 30
    assert settings.simulated
    printed = "\n".join(f"{name}={value}" for name, value in settings.rows())
    for secret in ("secret", "hidden", "hush"):
        assert secret not in printed


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FADEMOE_WORKER", "8"),
        ("FADEMOE_NOWHERE_REST_URL", "http://x"),
        ("FADEMOE_WORKERS", "0"),
        ("FADEMOE_WORKERS", "many"),
        ("FADEMOE_WEB_PORT", "70000"),
        ("FADEMOE_WEB_PORT", "８０"),
        ("FADEMOE_EXCHANGES", "mtgox"),
        ("FADEMOE_SYMBOLS", "BTC;DROP"),
        ("FADEMOE_SYMBOLS", ","),
        ("FADEMOE_DATABASE_URL", "mysql://x"),
        ("FADEMOE_REDIS_URL", "http://x"),
        ("FADEMOE_BINANCE_REST_URL", "https://host/path"),
        ("FADEMOE_BINANCE_REST_URL", "ws://host"),
        ("FADEMOE_BINANCE_WS_URL", "https://host"),
        ("FADEMOE_EGRESS", "a=1,a=2"),
        ("FADEMOE_RETENTION_DAYS", "-1"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_and_the_valid_values(variable, value):
    with pytest.raises(ConfigError) as raised:
        load_settings({variable: value})
    message = str(raised.value)
    assert "\n" not in message
    assert "valid" in message
    assert variable in message or variable == "FADEMOE_SYMBOLS"


def test_an_empty_variable_counts_as_not_set():
    assert load_settings({"FADEMOE_WORKERS": "", "FADEMOE_DATABASE_URL": " "}).workers == 8
