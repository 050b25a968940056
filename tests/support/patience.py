"""How long a test waits for what must happen: `PATIENCE`, and nothing shorter.

The limit is there to end a test that hangs. So it is far beyond what a healthy test needs on a machine that is busy
with other work, and no test says anything about time by it. A whole test has three times as long (`timeout` in
`pyproject.toml`), so that what was waited for in vain is named before the test is ended.
"""

from typing import Final

PATIENCE: Final = 60.0  # seconds
