"""README.md names the tests of each patch. This module checks that they exist."""

from __future__ import annotations

import re
import unittest

from tests.harness import FOLDER


class Readme(unittest.TestCase):
    def test_tests_named_in_the_tables_exist(self) -> None:
        methods = set()
        for module in FOLDER.glob("tests/test_*.py"):
            methods.update(re.findall(r"def test_(\w+)", module.read_text()))

        readme = (FOLDER / "README.md").read_text()
        rows = [line for line in readme.splitlines() if re.match(r"\| .*`\w+` \|$", line)]

        self.assertGreater(len(rows), 40)

        for row in rows:
            for name in re.findall(r"`(\w+)`", row.split(" | ")[-1]):
                with self.subTest(name):
                    self.assertIn(name, methods)
