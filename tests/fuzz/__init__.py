"""Fuzz targets, one an invariant; `make fuzz` drives them, and `test_corpus.py` replays what was kept."""
