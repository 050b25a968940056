"""How fast the two adapters are, measured side by side with their peers in one run: `python -m benchmarks --help`."""
