"""Settings are read from the environment; a wrong one is refused by name."""

from decimal import Decimal
from pathlib import Path

import pytest

from fademoe.cli.environment import load_settings
from fademoe.errors import ConfigError
from fademoe.settings import Settings, check_symbol, mask_url


def test_defaults_need_no_variable():
    settings = load_settings({"PATH": "/bin"})
    assert settings.home == Path("var").resolve()
    assert settings.database_url is None
    assert settings.postgres_url.startswith("postgresql://fademoe@/fademoe?host=")
    assert settings.queue_url.endswith("run/redis.sock")
    assert settings.workers == 8
    assert len(settings.symbols) == 20
    assert (settings.web_host, settings.web_port) == ("127.0.0.1", 8000)
    assert settings.compute_kept_from_ms(1_800_000_000_000) is None
    assert not settings.is_simulated


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
            "FADEMOE_OKX_REST_URL": "https://okx.test",
            "FADEMOE_COINALYZE_KEY": "unseen",
            "FADEMOE_WORKERS": "3",
            "FADEMOE_EGRESS": "a=10.0.0.1,http://me:covert=x@proxy:3128",
            "FADEMOE_WEB_PORT": "8001",
            "FADEMOE_ADMIN_TOKEN": "hush",
            "FADEMOE_RETENTION_DAYS": "30",
        }
    )
    proxy = "http://me:covert=x@proxy:3128"
    assert settings.symbols == ("BTC", "ETH")
    assert settings.exchanges == ("binance",)
    assert settings.rest_urls == {"binance": "http://127.0.0.1:9", "okx": "https://okx.test"}
    assert settings.egress == (("a", "10.0.0.1"), ("http://me:***@proxy:3128", proxy)), "the name is public"
    assert settings.retention_days == 30
    assert settings.is_simulated
    printed = "\n".join(f"{name}={value}" for name, value in settings.list_rows())
    assert "FADEMOE_OKX_REST_URL=https://okx.test" in printed
    for secret in ("secret", "hidden", "hush", "unseen", "covert"):
        assert secret not in printed


@pytest.mark.parametrize(
    ("variable", "one", "other"),
    [
        ("FADEMOE_DATABASE_URL", "postgresql://u:secret@db/f", "postgresql://u:secret2@db/f"),
        ("FADEMOE_EGRESS", "http://me:secret@proxy:3128", "http://me:secret2@proxy:3128"),
        ("FADEMOE_ADMIN_TOKEN", "secret", "secret2"),
        ("FADEMOE_COINALYZE_KEY", "secret", "secret2"),
    ],
)
def test_another_secret_is_told_without_showing_it(variable, one, other):
    first, again, second = (load_settings({variable: text}) for text in (one, one, other))
    assert first.list_rows() == second.list_rows()
    assert first.list_digests() == again.list_digests()
    (changed,) = set(first.list_digests()) - set(second.list_digests())
    assert changed[0] == variable and "secret" not in changed[1]
    assert dict(first.list_digests())["FADEMOE_WORKERS"] == "8"


def test_printed_settings_can_be_read_back():
    settings = load_settings({"FADEMOE_SYMBOLS": "all", "FADEMOE_LIMIT_SHARE": "0.5,okx=1"})
    rows = dict(settings.list_rows())
    names = ("FADEMOE_HOME", "FADEMOE_SYMBOLS", "FADEMOE_LIMIT_SHARE", "FADEMOE_WORKERS", "FADEMOE_WEB_HOST")
    assert load_settings({name: rows[name] for name in names}) == settings


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FADEMOE_WORKER", "8"),
        ("fademoe_workers", "8"),
        ("FADEMOE_NOWHERE_REST_URL", "http://x"),
        ("FADEMOE_WORKERS", "0"),
        ("FADEMOE_WORKERS", "many"),
        ("FADEMOE_WORKERS", "8.0"),
        ("FADEMOE_WEB_PORT", "70000"),
        ("FADEMOE_WEB_PORT", "８０"),
        ("FADEMOE_WEB_HOST", "http://0.0.0.0"),
        ("FADEMOE_WEB_HOST", "[::1]"),
        ("FADEMOE_EXCHANGES", "mtgox"),
        ("FADEMOE_EXCHANGES", ","),
        ("FADEMOE_SYMBOLS", "BTC;DROP"),
        ("FADEMOE_SYMBOLS", "BTC ETH"),
        ("FADEMOE_SYMBOLS", "all,BTC"),
        ("FADEMOE_SYMBOLS", ","),
        ("FADEMOE_DATABASE_URL", "mysql://x"),
        ("FADEMOE_DATABASE_URL", "host=db dbname=fademoe"),
        ("FADEMOE_DATABASE_URL", "postgresql://db:secret/x"),
        ("FADEMOE_DATABASE_URL", "postgresql://[::1/x"),
        ("FADEMOE_DATABASE_URL", "postgresql://db/x?nothing=1"),
        ("FADEMOE_DATABASE_URL", "postgresql://me:secret%zz@db/x"),
        ("FADEMOE_DATABASE_URL", "postgresql://a..b/x"),
        ("FADEMOE_REDIS_URL", "http://x"),
        ("FADEMOE_REDIS_URL", "redis://a..b"),
        ("FADEMOE_REDIS_URL", "redis://host/0?nothing=1"),
        ("FADEMOE_REDIS_URL", "redis://host/0?db=x"),
        ("FADEMOE_REDIS_URL", "redis://host/0?socket_timeout=x"),
        ("FADEMOE_REDIS_URL", "redis://host/0?decode_responses=1"),
        ("FADEMOE_REDIS_URL", "redis://me:secret@host:port/0"),
        ("FADEMOE_BINANCE_REST_URL", "https://host/path"),
        ("FADEMOE_BINANCE_REST_URL", "https://host:port"),
        ("FADEMOE_BINANCE_REST_URL", "ws://host"),
        ("FADEMOE_BINANCE_WS_URL", "https://host"),
        ("FADEMOE_EGRESS", "a=10.0.0.1,a=10.0.0.2"),
        ("FADEMOE_EGRESS", "a=10.0.0.1,b=10.0.0.1"),
        ("FADEMOE_EGRESS", "http://me:secret@proxy:1,http://me:hidden@proxy:1"),
        ("FADEMOE_EGRESS", "office"),
        ("FADEMOE_EGRESS", "http://proxy:0"),
        ("FADEMOE_EGRESS", "http://proxy:99999"),
        ("FADEMOE_EGRESS", "ftp://me:secret@proxy"),
        ("FADEMOE_RETENTION_DAYS", "-1"),
        ("FADEMOE_LIMIT_SHARE", "0"),
        ("FADEMOE_LIMIT_SHARE", "1.1"),
        ("FADEMOE_LIMIT_SHARE", "nan"),
        ("FADEMOE_LIMIT_SHARE", "mtgox=0.5"),
        ("FADEMOE_HOME", "/tmp/a,b"),
        ("FADEMOE_HOME", "/tmp/a\nb"),
        ("FADEMOE_HOME", "/tmp/\udcff"),
        ("FADEMOE_HOME", "~nobody-of-this-name/var"),
        ("FADEMOE_HOME", "/tmp/" + "x" * 300),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_and_the_valid_values(variable, value):
    with pytest.raises(ConfigError) as raised:
        load_settings({variable: value})
    message = str(raised.value)
    assert "\n" not in message
    assert "valid are" in message
    assert variable in message
    assert "secret@" not in message


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://db/f?user=f&password=s3cret", "postgresql://db/f?user=f&password=***"),
        ("postgresql://f:s3cret@db/f?sslpassword=s3cret&a=1", "postgresql://f:***@db/f?sslpassword=***&a=1"),
        ("postgresql://db/f?password=s3#cret", "postgresql://db/f?password=***"),
        ("redis://r:6379/0?password=s3cret&db=1", "redis://r:6379/0?password=***&db=1"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    ],
)
def test_no_password_of_an_address_is_shown(url, masked):
    assert mask_url(url) == masked


@pytest.mark.parametrize("url", ["postgresql://u:cret/3@db/f", "mysql://db/f?user=u&password=s3cret"])
def test_a_refused_address_is_shown_without_its_password(url):
    with pytest.raises(ConfigError, match=r"FADEMOE_DATABASE_URL.*\*\*\*") as caught:
        load_settings({"FADEMOE_DATABASE_URL": url})
    assert "cret" not in str(caught.value)


def test_a_proxy_that_is_refused_is_shown_without_its_password():
    with pytest.raises(ConfigError, match="FADEMOE_EGRESS") as caught:
        load_settings({"FADEMOE_EGRESS": "http://u:s3cret@h\u2100x"})
    assert "s3cret" not in str(caught.value)


def test_an_empty_variable_counts_as_not_set():
    assert load_settings({"FADEMOE_WORKERS": "", "FADEMOE_DATABASE_URL": " "}).workers == 8


@pytest.mark.parametrize(
    ("contract", "coin"),
    [
        ("BTCUSDT", "BTC"),
        ("btcusdt", "BTC"),
        ("1000PEPEUSDT", "PEPE"),
        ("PEPE-USDT-SWAP", "PEPE"),
        ("BTC/USDT:USDT", "BTC"),
        ("BTC-PERP", "BTC"),
        ("ETHUSDC", "ETH"),
    ],
)
def test_the_name_of_a_contract_is_refused_with_the_coin_that_is_meant(contract, coin):
    with pytest.raises(ConfigError, match=f"FADEMOE_SYMBOLS .*contract on {coin}[:;].*valid are"):
        load_settings({"FADEMOE_SYMBOLS": f"SOL,{contract}"})
    with pytest.raises(ConfigError, match=f"contract on {coin}: valid are"):
        check_symbol(contract)


def test_every_contract_in_a_list_of_symbols_is_named():
    with pytest.raises(ConfigError) as raised:
        load_settings({"FADEMOE_SYMBOLS": "BTCUSDT,1000PEPEUSDT"})
    assert "'BTCUSDT' is the name of a contract on BTC; '1000PEPEUSDT' is the name of a contract on PEPE" in str(
        raised.value
    )


@pytest.mark.parametrize("symbol", ["USDT", "USDC", "FDUSD", "PERP", "1000CAT", "1INCH", "币安人生"])
def test_coins_that_look_like_contracts_are_symbols(symbol):
    assert check_symbol(symbol) == symbol


def test_the_share_of_a_limit_can_be_set_for_all_and_for_one_exchange():
    assert load_settings({}).get_limit_share("okx") == Decimal("0.9")
    assert load_settings({"FADEMOE_LIMIT_SHARE": "okx=0.5"}).get_limit_share("okx") == Decimal("0.5")
    assert load_settings({"FADEMOE_LIMIT_SHARE": "okx=0.5"}).get_limit_share("bybit") == Decimal("0.9")
    assert load_settings({"FADEMOE_LIMIT_SHARE": "0.7, OKX = 0.5"}).get_limit_share("bybit") == Decimal("0.7")


def test_an_exchange_has_settings_whatever_its_name():
    given = {"FADEMOE_KRAKEN_FUTURES_REST_URL": "https://k.test", "FADEMOE_KRAKEN_FUTURES_KEY": "hush"}
    settings = Settings.read_env(given, ["kraken-futures"])
    assert settings.rest_urls == {"kraken-futures": "https://k.test"}
    assert settings.keys == {"kraken-futures": "hush"}
