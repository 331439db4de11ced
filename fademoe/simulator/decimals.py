"""Write integers as decimal text: every number of the simulator is an integer in units of 10 ** -decimals."""


def to_fixed(value: int, decimals: int) -> str:
    """Write `value` units of 10 ** -decimals with all decimals: to_fixed(-1204, 3) is "-1.204"."""
    if decimals <= 0:
        return f"{value}{'0' * -decimals}" if value else "0"
    sign = "-" if value < 0 else ""
    digits = f"{abs(value):0{decimals + 1}d}"
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


def to_trimmed(value: int, decimals: int) -> str:
    """Write `value` units of 10 ** -decimals without trailing zeros: to_trimmed(1200, 3) is "1.2"."""
    text = to_fixed(value, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


def rescale(value: int, decimals: int, wanted: int) -> int:
    """Convert units of 10 ** -decimals to units of 10 ** -wanted; round down when digits are lost."""
    scale: int = 10 ** abs(wanted - decimals)
    return value * scale if wanted >= decimals else value // scale
