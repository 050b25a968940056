"""
ASGI config for warehouse project, written as for any WSGI application that is not Django's.
"""

from bridge import WsgiToAsgi
from warehouse.wsgi import application as wsgi_application

application = WsgiToAsgi(wsgi_application)
