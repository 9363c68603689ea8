"""Runs all tests: `python -m tests`, or the modules that are named, `python -m tests test_iot`.

`python -m unittest discover` succeeds when it finds no test (before Python 3.12); this does not.
"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    loader = unittest.TestLoader()
    if sys.argv[1:]:
        suite = loader.loadTestsFromNames([f"tests.{name}" for name in sys.argv[1:]])
    else:
        suite = loader.discover(str(FOLDER), top_level_dir=str(FOLDER.parent))

    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if result.testsRun == 0:
        print("no test was found", file=sys.stderr)
        return 1
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
