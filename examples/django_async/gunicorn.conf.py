"""How Gunicorn serves the project: `gunicorn` in this directory."""

import signal

wsgi_app = "lookout.wsgi:application"

# Each process would ask the sites by itself, and know only its own notifications.
workers = 1
worker_class = "gthread"
# Each open feed holds one: see FEED_LIMIT in the settings.
threads = 16
graceful_timeout = 10


def post_worker_init(worker):
    from lookout.lifespan import end_feeds_at

    end_feeds_at(signal.SIGTERM)
