"""How Gunicorn serves the project: `gunicorn` in this directory."""

import signal

wsgi_app = "lookout.wsgi:application"

# Each process would ask the sites for itself, and know only its own notifications.
workers = 1
worker_class = "gthread"
# Each open feed holds one: see FEED_LIMIT in the settings.
threads = 16
graceful_timeout = 10


def post_worker_init(worker):
    """End the feeds when Gunicorn is told to stop: it waits for all responses first, and they have no end."""
    from lookout.lifespan import end_feeds

    def handle_exit(signum, frame):
        worker.handle_exit(signum, frame)
        end_feeds()

    signal.signal(signal.SIGTERM, handle_exit)
