"""The benchmarks: each module with a `run` is one. `python -m bench` runs all, `python -m bench NAME …` those named."""
