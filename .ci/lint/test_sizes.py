"""The size gate goes red for each thing that it must find."""

import unittest

from sizes import problems


class Sizes(unittest.TestCase):
    def test_a_binary_within_its_limit_passes(self):
        self.assertEqual(problems({"dispatcher": 95}, {"dispatcher": 100}), [])

    def test_a_binary_that_grew_is_named_with_its_size_and_its_limit(self):
        found = problems({"dispatcher": 101}, {"dispatcher": 100})
        self.assertEqual(found, ["dispatcher has 101 bytes, and its limit is 100"])

    def test_a_limit_that_has_become_loose_must_be_lowered(self):
        self.assertEqual(len(problems({"dispatcher": 89}, {"dispatcher": 100})), 1)

    def test_a_binary_without_a_limit_and_a_limit_without_a_binary_are_named(self):
        found = problems({"new": 1}, {"old": 1})
        self.assertEqual(found, ["new has no limit in sizes.toml", "old was not built"])


if __name__ == "__main__":
    unittest.main()
