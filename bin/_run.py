"""What bin/run starts, and a service without it: what is installed, of which nothing is written."""

import signal
import sys
from pathlib import Path

# Until portal.supervisor is loaded, which takes a second, there is nothing to stop in order: Ctrl-C
# ends this without a word.
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from portal.supervisor import main  # noqa: E402

sys.exit(main())
