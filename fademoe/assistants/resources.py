"""What an assistant can read without a question: tables, metrics, symbols, and what the values mean."""

import json
from collections.abc import Callable
from importlib import resources as files
from typing import Any

import msgspec
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError

from fademoe.assistants.session import open_session
from fademoe.metrics import METRICS
from fademoe.store.read.catalog import list_perpspecs, list_symbols
from fademoe.web.model.schema import find_table
from fademoe.web.problem import Problem

SEMANTICS_FILE = "semantics.md"


def register(server: MCPServer[Any], address: str) -> None:
    """Give the resources to a server; they are read as the role of assistants."""

    def show_table(table: str) -> str:
        """Describe the columns of a table or view: types, units, meaning."""
        with open_session(address) as cursor:
            try:
                described = find_table(cursor, table)
            except Problem as error:
                raise ResourceError(str(error)) from error
            return _write({"table": described.table, "purpose": described.purpose, "columns": described.columns})

    def show_metrics() -> str:
        """List the metrics: title, columns with units, how a coarser step is made of rows, and the sources."""
        with open_session(address) as cursor:
            specs = list_perpspecs(cursor)
        return _write(
            [
                {
                    "metric": metric.name,
                    "title": metric.title,
                    "interval": metric.interval,
                    "ts_is": metric.instant.value,
                    "columns": metric.columns,
                    "sources": [spec.name for spec in specs.values() if spec.metric == metric.name],
                }
                for metric in METRICS.values()
            ]
        )

    def show_symbols() -> str:
        """List the symbols of each source."""
        with open_session(address) as cursor:
            return _write({name: list_symbols(cursor, name) for name in list_perpspecs(cursor)})

    def show_semantics() -> str:
        """Explain what rows, instants, units, coverage and absences mean."""
        return files.files("fademoe.assistants").joinpath(SEMANTICS_FILE).read_text(encoding="utf-8")

    shown: tuple[tuple[str, str, str, Callable[..., str]], ...] = (
        ("fademoe://schema/{table}", "schema", "application/json", show_table),
        ("fademoe://metrics", "metrics", "application/json", show_metrics),
        ("fademoe://symbols", "symbols", "application/json", show_symbols),
        ("fademoe://semantics", "semantics", "text/markdown", show_semantics),
    )
    for uri, name, kind, show in shown:
        server.resource(uri, name=name, description=show.__doc__, mime_type=kind)(show)


def _write(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=1)
