"""Turns ccxt's addresses into the simulator's; for Pythons of other environments, too, so without other imports."""


def moved(urls: object, address: str) -> object:
    """Replace scheme and host of every address in ccxt's nested table of them."""
    if isinstance(urls, dict):
        return {key: moved(value, address) for key, value in urls.items()}
    path = str(urls).partition("://")[2].partition("/")[2]
    return f"{address}/{path}" if path else address
