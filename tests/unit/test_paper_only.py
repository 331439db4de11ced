"""FadeMoe trades on paper: no code signs a request, no setting holds a secret of an account, no endpoint is private."""

import ast
import re
from pathlib import Path

import fademoe
from fademoe.settings import list_declared_settings

ROOT = Path(fademoe.__file__).parent
TALKING = ("exchanges", "feeds", "client", "streams", "jobs", "trader", "account", "backtest", "strategy.py")
MAY_SIGN = {"web/http/auth.py", "assistants/serve.py", "alerts/messages.py"}  # sessions, tokens, webhooks of alerts
PRIVATE = re.compile(
    r"MBX-APIKEY|recvWindow|listenKey|X-BAPI-(?:SIGN|API-KEY)|OK-ACCESS|passphrase|api[_-]?secret"
    r"|/(?:fapi|dapi|papi)/v\d/(?:order|batchOrders|leverage|marginType|account|balance|positionRisk)\b"
    r"|/v5/(?:order|position|account|asset|user)/|/api/v5/(?:trade|account|asset)/",
    re.IGNORECASE,
)


def list_sources() -> dict[str, str]:
    paths = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] in TALKING]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def test_no_request_can_be_signed():
    signing = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if names & {"hmac", "cryptography", "nacl", "ecdsa", "Crypto"}:
            signing.append(str(path.relative_to(ROOT)))
    assert set(signing) <= MAY_SIGN


def test_no_private_endpoint_is_named():
    sources = list_sources()
    assert len(sources) > 60
    assert {name: PRIVATE.findall(text) for name, text in sources.items() if PRIVATE.search(text)} == {}


def test_no_setting_holds_the_secret_of_an_account():
    per_exchange = {setting.name for setting in list_declared_settings().values() if setting.is_per_exchange}
    assert not {name for name in per_exchange if re.search("SECRET|SIGN|PASS|PRIVATE", name)}
