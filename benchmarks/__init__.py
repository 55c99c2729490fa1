"""The measurements of the app as a command, `python -m benchmarks`."""
