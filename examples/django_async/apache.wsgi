"""What Apache runs: the project's own `wsgi.py`, and an end for its feeds."""

import mod_wsgi

from lookout.lifespan import end_feeds
from lookout.wsgi import application  # noqa: F401  # mod_wsgi looks for it here

# mod_wsgi gives responses some seconds before it stops, and feeds have no end of their own.
mod_wsgi.subscribe_shutdown(lambda *_, **__: end_feeds())
