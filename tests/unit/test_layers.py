"""Who may import whom: only lower layers, and no exchange's name outside its own module."""

import ast
import re
from pathlib import Path

import pytest

import fademoe
from fademoe.feeds import registry

ROOT = Path(fademoe.__file__).parent
FLOORS = (  # lowest first; a room may import what lies on the floors below its own, and itself
    ("errors", "clock", "logs", "signals"),
    ("settings", "metrics", "strategy", "tokens"),
    ("account", "expressions"),
    ("feeds", "embedded", "supervisord"),
    ("exchanges", "store", "archives"),
    ("bulk",),
    ("client", "queue", "evaluation"),
    ("runtime", "alerts", "backtest"),
    ("jobs", "streams", "simulator", "trader"),
    ("worker", "web", "deploy", "testing"),
    ("assistants",),
    ("cli",),
    ("__main__",),
)
NOT_FOR_WEB = ("client", "jobs", "streams", "worker", "runtime")
ALLOWED_FOR_WEB = ("fademoe.client.rate_limit",)  # its read model: what is used of each rate limit
# The floors inside web, lowest first. `http` knows Flask and none of FadeMoe's data, `model` the data and no Flask.
WEB_FLOORS = (("problem",), ("http", "model"), ("current",), ("api",), ("pages", "control"), ("app",), ("serve",))
# The floors inside the simulator, lowest first: time and numbers, the market's data, the parts of a server, the base of
# an exchange, the exchanges (none knows another one), and the process with its control plane.
SIMULATOR_FLOORS = (
    ("clock", "decimals"),
    ("market",),
    ("faults", "limits", "pages", "stats", "timeline"),
    ("damage", "sockets", "files"),
    ("exchange",),
    ("binance", "bybit", "okx", "coinalyze"),
    ("options", "control"),
    ("server",),
    ("__main__",),
)
SAME_FILES = {"exchange.py", "limits.py", "listing.py", "rows.py"}  # of every simulated exchange
STREAM_FILES = {"feeds.py", "stream.py"}  # of those with sockets
GROUND = ("errors", "clock", "logs", "settings", "tokens")  # all that `web.http` may import from outside web


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def layer_of(part: str) -> int:
    return next(level for level, parts in enumerate(FLOORS) if part in parts)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("fademoe.")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fademoe":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= set(names) if node.module in ("fademoe", "fademoe.web") else {node.module}
    return found


def modules() -> list[tuple[str, Path]]:
    paths = sorted(path for path in ROOT.rglob("*.py"))
    return [(".".join(("fademoe", *path.relative_to(ROOT).with_suffix("").parts)), path) for path in paths]


def test_modules_import_only_lower_layers():
    wrong = []
    for name, path in modules():
        part = part_of(name)
        if part == "__init__":
            continue
        for target in imports_of(path):
            below = part_of(target)
            if below in ("__init__", "__version__", part):
                continue
            is_barred = part == "web" and below in NOT_FOR_WEB and not target.startswith(ALLOWED_FOR_WEB)
            if layer_of(below) >= layer_of(part) or is_barred:
                wrong.append(f"{name} imports {target}")
            if below == "exchanges":
                wrong.append(f"{name} imports the exchange {target}")
    assert not wrong


def wrong_imports(room: str, floors: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the imports inside a room that do not lead to a lower floor of it."""
    wrong = []
    for name, path in modules():
        own = floor_in(room, name, floors)
        for target in imports_of(path) if own is not None else ():
            floor = floor_in(room, target, floors)
            if floor is not None and part_in(room, target) != part_in(room, name) and floor >= own:
                wrong.append(f"{name} imports {target}")
    return wrong


def test_web_modules_import_only_lower_floors_of_web():
    assert not wrong_imports("web", WEB_FLOORS)


def test_simulator_modules_import_only_lower_floors_of_the_simulator():
    assert not wrong_imports("simulator", SIMULATOR_FLOORS)


def test_simulated_exchanges_have_the_same_files():
    for folder in SIMULATOR_FLOORS[5]:
        names = {path.name for path in (ROOT / "simulator" / folder).glob("*.py")}
        assert names >= SAME_FILES, folder
        assert names >= STREAM_FILES or not names & STREAM_FILES, folder


def test_http_knows_none_of_our_data_and_model_no_flask():
    wrong = []
    for name, path in modules():
        if name.startswith("fademoe.web.http."):
            barred = {target for target in imports_of(path) if part_of(target) not in ("web", *GROUND)}
            wrong += [f"{name} imports {target}" for target in barred]
        if name.startswith("fademoe.web.model.") and re.search(r"(?:from|import) (?:flask|werkzeug)", path.read_text()):
            wrong.append(f"{name} imports Flask")
    assert not wrong


def part_in(room: str, module: str) -> str | None:
    """Return the room or file inside `room` that a module belongs to, None outside of it."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == [room] and parts[2:] and parts[2] != "__init__" else None


def floor_in(room: str, module: str, floors: tuple[tuple[str, ...], ...]) -> int | None:
    part = part_in(room, module)
    return None if part is None else next(level for level, parts in enumerate(floors) if part in parts)


def test_no_import_inside_a_function():
    late = []
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
                late += [f"{name}:{n.lineno}" for n in inner]
    assert not late


def test_no_exchange_is_named_outside_its_module():
    found = []
    for name, path in modules():
        if part_of(name) in ("exchanges", "simulator"):
            continue
        text = path.read_text(encoding="utf-8").lower()
        found += [f"{name}: {exchange}" for exchange in registry.list_names() if re.search(rf"\b{exchange}\b", text)]
    assert not found


@pytest.mark.parametrize("room", ["alerts", "backtest", "evaluation", "jobs", "trader"])
def test_the_list_of_a_rooms_files_is_whole(room):
    """The docstring of a room with many files has a line for each."""
    text = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")), clean=False)
    listed = re.findall(r"^(?:    )?([a-z_]+) {2,}[A-Za-z]", text or "", re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / room).glob("*.py") if path.stem != "__init__")


def test_the_drawing_of_the_rooms_is_this_one():
    """docs/architecture.md draws the floors, the highest first; behind the names of a floor it may say what it is."""
    text = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text.partition("## Rooms")[2].split("\n\n")[2]
    names = [re.split(r" {3,}", line.strip())[0].split() for line in block.splitlines()]
    assert [set(floor) for floor in reversed(names)] == [set(floor) for floor in FLOORS]
