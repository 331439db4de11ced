"""Run the simulator: `python -m fademoe.simulator --port N`."""

import sys

from fademoe.simulator.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
