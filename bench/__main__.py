"""`python -m bench [NAME …]`: run benchmarks one after the other, print their tables and store them."""

import argparse
import importlib
import pkgutil
import signal
import sys
import time

import bench
from bench import report


def main() -> int:
    """Run all benchmarks, or those named; return 0, or 1 when one has failed."""
    found = sorted(entry.name for entry in pkgutil.iter_modules(bench.__path__))
    # what runs in the environment of another program cannot be imported here
    ours = [name for name in found if name != "__main__" and not name.startswith("peer_")]
    modules = {name: importlib.import_module(f"bench.{name}") for name in ours}
    programs = {name: module for name, module in modules.items() if hasattr(module, "run")}
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure FadeMoe; results go to bench/results.md."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(programs)}; all without a name")
    names = parser.parse_args().names or list(programs)
    unknown = [name for name in names if name not in programs]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(programs)}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what was started is ended, too
    failed = 0
    for name in names:
        begin_s = time.monotonic()
        print(f"{name}: {programs[name].__doc__.splitlines()[0]}", flush=True)
        try:
            found_out = programs[name].run()
        except Exception as error:  # noqa: BLE001 - the other benchmarks still run
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed = 1
            continue
        print(f"{found_out.markdown()}\n{name} took {time.monotonic() - begin_s:.0f} s\n", flush=True)
        report.store(name, found_out)
    return failed


if __name__ == "__main__":
    sys.exit(main())
