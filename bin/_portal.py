"""What bin/portal and bin/run start, and a service without them: the command line of what is
installed, of which nothing is written."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from portal.__main__ import main

main()
