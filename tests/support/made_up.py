"""Exchanges that packages outside of FadeMoe bring: tests/made_up/<package>/, found by their entry points."""

import subprocess
import sys
import tomllib
from pathlib import Path

import requests

MADE_UP = Path(__file__).parents[1] / "made_up"


class MadeUpExchange:
    """A made-up exchange: its package, and its server as a process of its own."""

    def __init__(self, package: str, clock: str) -> None:
        """Start the server; `clock` is what FADEMOE_CLOCK has."""
        folder = MADE_UP / package
        command = [sys.executable, str(folder / f"{package}_server.py"), "--clock", clock]
        self.folder = folder
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()

    def truth(self, metric: str, name: str, start_ms: int, end_ms: int) -> dict[int, dict]:
        """Return what should be stored of a contract, by ts."""
        query = {"metric": metric, "name": name, "from": start_ms, "to": end_ms}
        answer = requests.get(f"{self.url}/truth", params=query, timeout=60)
        answer.raise_for_status()
        return {int(ts): row for ts, row in answer.json().items()}

    def stats(self) -> dict[str, int]:
        """Return how often FadeMoe did what."""
        return requests.get(f"{self.url}/stats", timeout=60).json()


def install(folder: Path, site: Path) -> None:
    """Put a package into `site` as pip does: its modules, its name and its entry points."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    meta = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = {
        group: "\n".join(f"{name} = {module}" for name, module in points.items())
        for group, points in project["entry-points"].items()
    }
    (meta / "entry_points.txt").write_text("\n".join(f"[{group}]\n{points}\n" for group, points in groups.items()))
    (site / folder.name).symlink_to(folder / folder.name)
