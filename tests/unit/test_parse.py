"""Readers of single values."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fademoe.errors import BadPayload
from fademoe.feeds import rows, symbols, values
from fademoe.feeds.instrument import Instrument
from fademoe.metrics import Candle

BTC = Instrument(exchange="acme", code="acm", name="BTC", symbol="BTC")

BAD_NUMBERS = [None, 1.5, True, "", " 1", "NaN", "Infinity", "1e", "0x10", "1,5", "--1", "１", "1.", [], "1\n"]
BAD_NUMBERS += ["1e99", "1E-99", Decimal("NaN"), Decimal("1e31"), Decimal("1e-31"), 10**30, "1e5\n", "1e1.5"]


@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_what_is_not_a_decimal_string_is_a_bad_payload(value):
    for read in (values.read_number, values.read_amount, values.read_price):
        with pytest.raises(BadPayload):
            read(value)


def test_digits_are_kept():
    assert values.read_number("-0.00042931") == "-0.00042931"
    assert values.read_amount("8514292.61220") == "8514292.61220"
    assert values.read_price("0.0000100") == "0.0000100"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5E-7", "0.0000005"),
        ("1.25e3", "1250"),
        ("-2e-05", "-0.00002"),
        (Decimal("1e-7"), "0.0000001"),
        (Decimal("-0.10"), "-0.10"),
        (Decimal("0.10000000000000000001"), "0.10000000000000000001"),
        (12, "12"),
    ],
)
def test_exponents_and_json_numbers_are_decimals_read_exactly(value, expected):
    """The fault: "5E-7" voided its page."""
    assert values.read_number(value) == expected
    if not expected.startswith("-"):
        assert values.read_amount(value) == values.read_price(value) == values.read_amounts([value])[0] == expected
    else:
        with pytest.raises(BadPayload):
            values.read_amount(value)


@pytest.mark.parametrize("value", [1767225600, "1767225600", Decimal("1767225600.0009"), "1767225600.0"])
def test_a_time_in_seconds_is_read_as_ms(value):
    assert values.seconds_to_ms(value) == 1_767_225_600_000
    assert values.seconds_to_ms(Decimal("1767225600.123")) == 1_767_225_600_123


@pytest.mark.parametrize("value", [None, True, 1.5, "", "x", -1, 1_767_225_600_000, "1e5", Decimal("NaN"), []])
def test_what_is_not_a_time_in_seconds_is_a_bad_payload(value):
    with pytest.raises(BadPayload, match="not a time in seconds"):
        values.seconds_to_ms(value)


@pytest.mark.parametrize(
    "value", ["2026-01-01T00:00:00.123Z", "2026-01-01T00:00:00.123999Z", "2026-01-01T01:00:00.123+01:00"]
)
def test_a_time_in_iso_8601_is_read_as_ms(value):
    assert values.iso_to_ms(value) == 1_767_225_600_123


@pytest.mark.parametrize(
    "value",
    [None, 1767225600, "", "1767225600", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "1026-01-01T00:00Z", {}],
)
def test_what_is_not_a_time_in_iso_8601_is_a_bad_payload(value):
    with pytest.raises(BadPayload, match="ISO 8601"):
        values.iso_to_ms(value)


def test_rows_newest_first_get_the_time_of_the_row_before_however_it_is_written():
    sent = [
        {"at": "2026-01-01T08:00:00Z"},
        {"at": "odd"},
        {"at": "2026-01-01T00:00:00Z"},
        {"at": "2025-12-31T16:00:00Z"},
    ]
    first_ms, second_ms, third_ms = (values.iso_to_ms(sent[at]["at"]) for at in (3, 2, 0))
    previous = [row.get("previous") for row in rows.add_previous(sent, "at", values.iso_to_ms)]
    assert previous == [first_ms, first_ms, third_ms, None]
    assert second_ms not in previous, "an unreadable row may lie between"


def test_a_blank_optional_amount_is_none():
    assert [values.read_optional_amount(value) for value in (None, "", "1.5")] == [None, None, "1.5"]
    with pytest.raises(BadPayload):
        values.read_optional_amount("-")


def test_amounts_are_not_negative_and_prices_not_zero():
    with pytest.raises(BadPayload):
        values.read_amount("-1")
    for zero in ("0", "0.000"):
        assert values.read_amount(zero) == zero
        with pytest.raises(BadPayload):
            values.read_price(zero)


@pytest.mark.parametrize("value", [1767225600, 1767225600000000, "x", None, True, 1.7e12, -1])
def test_times_in_other_units_are_bad(value):
    with pytest.raises(BadPayload):
        values.to_ms(value)


def test_times_are_read_from_integers_and_digits():
    assert values.to_ms(1767225600000) == values.to_ms("1767225600000") == 1767225600000


@pytest.mark.parametrize("value", ["0", "0.00", "12.5", "-0.5", "1234.5600", "0.0123", "100", "-7", "83137.90"])
@pytest.mark.parametrize("power", [-6, -3, 0, 3, 6])
def test_shift_is_exact(value, power):
    shifted = values.shift(value, power)
    assert Decimal(shifted) == Decimal(value).scaleb(power)
    assert "E" not in shifted.upper()
    assert not shifted.lstrip("-").startswith("00")


@given(st.lists(st.decimals(min_value="0.01", max_value="99999", places=2), min_size=4, max_size=4), st.data())
def test_a_candle_is_read_where_its_prices_are_ordered_and_nowhere_else(prices, data):
    """Texts of one shape are compared as texts, all others as numbers: the order is that of the numbers."""
    texts = [data.draw(st.sampled_from([f"{price:f}", f"{price.normalize():f}", f"0{price:f}"])) for price in prices]
    opened, high, low, close = prices
    if low <= opened <= high and low <= close <= high:
        assert rows.make_candle(BTC, 1767225600000, [*texts, "1", "2"]) == Candle(1767225600000, *texts, "1", "2")
    else:
        with pytest.raises(BadPayload, match="between low and high"):
            rows.make_candle(BTC, 1767225600000, [*texts, "1", "2"])


@pytest.mark.parametrize("bad", ["1,5", "", "-1", "1.", None, 1.5, "1" * 31])
@pytest.mark.parametrize("index", range(7))
def test_a_candle_with_one_bad_value_is_bad(bad, index):
    values_sent = ["2", "4", "1", "3", "5", "6", "7"]
    values_sent[index] = bad
    with pytest.raises(BadPayload):
        rows.make_candle(BTC, 1767225600000, values_sent)


def test_candles_must_be_ordered():
    rows.check_candle("1.0", "2", "0.5", "2.0")
    for o, h, low, c in (("3", "2", "1", "2"), ("1", "2", "1.5", "2"), ("1", "2", "1", "2.1")):
        with pytest.raises(BadPayload):
            rows.check_candle(o, h, low, c)


@pytest.mark.parametrize(
    ("base", "coin", "multiplier"),
    [
        ("1000PEPE", "PEPE", 1000),
        ("SHIB1000", "SHIB", 1000),
        ("1000BONK", "BONK", 1000),
        ("1000CAT", "CAT", 1000),
        ("CAT", "CAT", 1),
        ("10000SATS", "SATS", 10000),
        ("1000000MOG", "MOG", 1000000),
        ("1MBABYDOGE", "BABYDOGE", 1000000),
        ("10000000AIDOGE", "AIDOGE", 10000000),
        ("1000X", "X", 1000),
        ("1INCH", "1INCH", 1),
        ("C98", "C98", 1),
        ("API3", "API3", 1),
        ("LUNA2", "LUNA2", 1),
        ("RSS3", "RSS3", 1),
        ("币安人生", "币安人生", 1),
        ("1000币安", "币安", 1000),
    ],
)
def test_multipliers_are_told_from_coins_with_digits(base, coin, multiplier):
    assert symbols.split_multiplier(base) == (coin, multiplier)
    assert 10 ** symbols.find_power_of_ten(multiplier) == multiplier


def test_numbers_keep_the_digits_that_were_sent():
    assert str(values.decode(b'[{"a":1.50,"b":-1e-7,"c":12345678901234567890123}]')[0]["a"]) == "1.50"
    assert values.decode(b"[0.1234567890123456789, 123456789012345678901234567890]") == [
        Decimal("0.1234567890123456789"),
        123456789012345678901234567890,
    ]


@pytest.mark.parametrize("number", ["1791382920", "1791382920.0", "1.79138292e9", "1791382920e0"])
def test_a_whole_number_is_an_integer_however_it_is_written(number):
    """JSON has one kind of numbers, and some servers write all of them as floats."""
    count, ms = values.decode(f"[{number}, {number}e3]".replace("e0e3", "e3").replace("e9e3", "e12").encode())
    assert (values.read_count(count), values.to_ms(ms)) == (1791382920, 1791382920000)
    for bad in values.decode(b"[1791382920.5, 1e300, 1e-3]"):
        with pytest.raises(BadPayload):
            values.read_count(bad)


@pytest.mark.parametrize(
    "odd",
    ["NaN", "Infinity", "-Infinity", "1e9999999999999999999", "1e-9999999999999999999", "7" * 5000, "-" + "7" * 500],
)
def test_an_odd_number_voids_its_own_element_only(odd):
    """The fault: the whole answer was refused, again and again, or the job died."""
    good, bad = values.decode(f'[{{"a":1.5}},{{"a":{odd}}}]'.encode())
    assert values.read_amount(good["a"]) == "1.5"
    for read in (
        values.read_number,
        values.read_amount,
        values.read_optional_amount,
        values.read_price,
        values.read_count,
        values.to_ms,
    ):
        with pytest.raises(BadPayload):
            read(bad["a"])


@pytest.mark.parametrize("odd", [b"\\ud83d", b"\\udc00x", b"a\xffb", b"\xed\xa0\x80"])
def test_half_a_character_voids_its_own_element_only(odd):
    """The fault: the whole answer was refused for one text."""
    good, bad, pair = values.decode(b'[{"a":"BTC","n":1.50},{"a":"' + odd + b'","n":1.5},{"a":"\\ud83d\\ude00"}]')
    assert (values.read_text(good["a"]), values.read_amount(good["n"])) == ("BTC", "1.50")
    assert pair["a"] == "\U0001f600"
    with pytest.raises(BadPayload):
        values.read_text(bad["a"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b'{"a":1',
        b"[Nan]",
        b"\xff\xfe[1]",
        b"NaN]",
        b"[" * 5000,
        b"[1]x",
        b"[" * 1020 + b"]" * 1020,
    ],
)
def test_what_is_no_json_to_the_letter_is_refused(content):
    with pytest.raises(ValueError):
        values.decode(content)
