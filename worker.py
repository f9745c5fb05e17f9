"""Worker processes, by hand: `python worker.py` is `bin/portal worker` (portal.run.worker)."""

import sys

from portal.__main__ import main

if __name__ == "__main__":
    main(["worker", *sys.argv[1:]])
