"""Django's own tests of its request handling, run through `bridge.django`: see `scripts/test_django.py`."""
