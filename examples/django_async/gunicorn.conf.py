"""How Gunicorn serves the project: `gunicorn` in this directory."""

import os
import signal

from bridge import gunicorn as bridge_hooks

wsgi_app = "lookout.wsgi:application"

# Several workers need REDIS_URL, to tell each other what happens.
workers = int(os.environ.get("WEB_CONCURRENCY", 1))
worker_class = "gthread"
# Each open feed and each page of the chat holds a thread: see FEED_LIMIT and CHAT_LIMIT in the settings.
threads = 32
graceful_timeout = 10

worker_exit = bridge_hooks.worker_exit


def on_starting(server):
    if server.cfg.workers > 1 and not os.environ.get("REDIS_URL"):
        server.log.warning("Several workers, but REDIS_URL is not set: messages from one worker reach the others late.")


def post_worker_init(worker):
    from lookout.lifespan import end_streams_at

    end_streams_at(signal.SIGTERM)
    bridge_hooks.post_worker_init(worker)  # WebSockets are closed at once as well
    # Ctrl-C in a terminal reaches the workers too. Gunicorn passes it on as well, and two at once may make them hang.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
