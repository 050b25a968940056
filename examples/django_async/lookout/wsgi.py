"""
WSGI config for lookout project.

It exposes the WSGI callable as a module-level variable named ``application``.

For more information on this file, see
https://docs.djangoproject.com/en/5.2/howto/deployment/wsgi/
"""

import os

from bridge.django import get_wsgi_application
from lookout.lifespan import shutdown, startup

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lookout.settings")

application = get_wsgi_application(websocket="chat.socket.application", startup=startup, shutdown=shutdown)
