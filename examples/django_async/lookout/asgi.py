"""
ASGI config for lookout project.

It exposes the ASGI callable as a module-level variable named ``application``.

For more information on this file, see
https://docs.djangoproject.com/en/5.2/howto/deployment/asgi/
"""

import os

from bridge.django import get_asgi_application
from lookout.lifespan import shutdown, startup

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lookout.settings")

application = get_asgi_application(websocket="chat.socket.application", startup=startup, shutdown=shutdown)
