"""Parameters that several routes share."""

from fademoe.clock import Window
from fademoe.errors import ConfigError
from fademoe.settings import check_symbol
from fademoe.web.http.params import FROM, TIME_FORMS, TO, Names, Params, Text
from fademoe.web.problem import BadParameter, Problem

MAX_SYMBOLS = 500


class Symbols(Names):
    """A coin or a comma list of coins, sorted; empty means all."""

    def parse(self, text: str) -> tuple[str, ...]:
        """Return the symbols, in upper case as they are stored."""
        names = super().parse(text)
        if len(names) > MAX_SYMBOLS:
            raise BadParameter(self.name, f"{len(names)} symbols", f"at most {MAX_SYMBOLS} symbols")
        try:
            return tuple(sorted({check_symbol(name) for name in names}))
        except ConfigError:
            raise BadParameter(self.name, text, "a coin such as BTC, or a comma list of coins") from None


PERPSPEC = Text("perpspec", "exchange code and metric; /api/perpspecs lists them", example="bin-ohlcv")
SYMBOL = Symbols("symbol", f"a coin, or a comma list of up to {MAX_SYMBOLS}; all when left out", example="BTC")
ONE_SYMBOL = Symbols("symbol", "a coin", example="BTC", is_required=True)


def read_one_symbol(params: Params) -> str:
    """Return the one symbol that ONE_SYMBOL must be."""
    symbols = params[ONE_SYMBOL]
    if len(symbols) != 1:
        raise params.refuse(ONE_SYMBOL, "one coin such as BTC")
    return symbols[0]


def read_window(params: Params) -> Window | None:
    """Return the range [FROM, TO), None when neither is given; refuse one without the other."""
    start_ms, end_ms = params.read_span()
    if start_ms is None and end_ms is None:
        return None
    if start_ms is None or end_ms is None:
        name = (FROM if start_ms is None else TO).name
        raise Problem(400, f"{name} is required beside the other end: {TIME_FORMS}", parameter=name)
    return Window(start_ms, end_ms)
