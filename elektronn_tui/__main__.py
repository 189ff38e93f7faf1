"""``python -m elektronn_tui`` is the `elektronn` command."""

import sys

from elektronn_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
