"""Turn a pickle that a person trusts into a file of skops. Run as a process of its own, and never imported.

Loading a pickle runs what its file says. The process that does so has no secret in its environment, its only result is
a file, and that file is read as skops: as data and names of types.
"""

import sys
from pathlib import Path

import cloudpickle
import skops.io

if __name__ == "__main__":
    source, target = sys.argv[1:]
    skops.io.dump(cloudpickle.loads(Path(source).read_bytes()), target)
