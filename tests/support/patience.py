"""How long a test waits for what must happen: one of these two, and nothing shorter.

They are there to end a test that hangs. So they are far beyond what a healthy test needs on a machine that is busy with
other work, and no test says anything about time by them. A whole test has longer (`timeout` in `pyproject.toml`), so
that what was waited for in vain is named before the test is ended.
"""

from typing import Final

# Below the 30 seconds after which an adapter or Gunicorn would end by force what hangs.
PATIENCE: Final = 25.0  # seconds
# Until a process has started, has ended, or has done all that it is for.
PROCESS_PATIENCE: Final = 60.0  # seconds
