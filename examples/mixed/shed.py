"""Both applications in one process, for any server."""

import api
import database
import legacy
from bridge import Mounts

database.prepare()
site = Mounts({"/api": api.app, "/": legacy.app})

asgi = site.asgi  # uvicorn shed:asgi
wsgi = site.wsgi  # gunicorn --threads 20 shed:wsgi
