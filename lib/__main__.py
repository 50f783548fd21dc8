"""`python -m lib` is the command `workbook`."""

import sys

from lib.workbook.command import main

if __name__ == "__main__":
    sys.exit(main())
