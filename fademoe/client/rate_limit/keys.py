"""Names of the limiter's keys in Redis."""

ALGORITHM = "slots1"  # in the names of the keys: another algorithm uses other keys
ANY_EGRESS = "any"  # in the name of a budget that all addresses share


def make_budget_key(exchange: str, name: str, egress: str) -> str:
    """Return the key of a budget's hash at one egress."""
    return f"budget:{ALGORITHM}:{exchange}:{name}:{egress}"


def make_units_key(budget: str) -> str:
    """Return the key of the units in use of a budget whose windows slide, from the key of its hash."""
    return f"units{budget.removeprefix('budget')}"


def make_outage_key(exchange: str, egress: str, path: str = "") -> str:
    """Return the key of the hash that counts failures of an exchange at one egress, of all paths together or of one."""
    if path:
        return f"path-outage:{ALGORITHM}:{exchange}:{path}:{egress}"
    return f"outage:{ALGORITHM}:{exchange}:{egress}"


def split_key(key: str) -> list[str]:
    """Return what follows the algorithm in a key: exchange, name or path, and egress; or exchange and egress."""
    kind = key.partition(":")[0]
    return key.split(":", 3 if kind == "outage" else 4)[2:]
