from functools import wraps

from asgiref.sync import sync_to_async
from django.db import close_old_connections


def in_database(function):
    """Turn a function that uses the ORM into an async one, for code outside of requests.

    Django closes old connections when a request begins and ends. Code outside of requests has to do this itself.
    """

    @wraps(function)
    def call(*args, **kwargs):
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return sync_to_async(call)
