from functools import wraps

from asgiref.sync import sync_to_async
from django.db import close_old_connections


def in_database(function):
    """An async function of one that uses the ORM, for code that no request surrounds.

    Such code has to close connections that are too old by itself, which Django does where requests begin and end.
    """

    @wraps(function)
    def call(*args, **kwargs):
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return sync_to_async(call)
