"""``python -m dpo_collate``: the program ``dpo-collate``."""

import sys

from dpo_collate.cli import main

if __name__ == "__main__":
    sys.exit(main())
