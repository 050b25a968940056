"""
ASGI config for warehouse project.

It exposes the ASGI callable as a module-level variable named ``application``.

For more information on this file, see
https://docs.djangoproject.com/en/5.2/howto/deployment/asgi/
"""

import os

from bridge.django import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "warehouse.settings")

application = get_asgi_application()
