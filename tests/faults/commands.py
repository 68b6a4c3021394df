"""Run commands of the product in one process, which imports once: `… '[["migrate"], ["land", …]]'`."""

import json
import sys

from include.cli import app

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        if code := app(arguments, standalone_mode=False):
            sys.exit(code)
