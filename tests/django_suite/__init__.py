"""Django's own tests of its request handling, run through `bridge.django`: see `__main__.py`."""
