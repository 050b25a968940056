"""What Apache runs: the project's own `wsgi.py`, and an end for its streams when Apache stops."""

import mod_wsgi

from lookout.lifespan import end_streams
from lookout.wsgi import application  # noqa: F401  # mod_wsgi looks for it here

mod_wsgi.subscribe_shutdown(end_streams)
