"""The comparison of limits must fail on a value that is not the code's."""

import unittest

import limits


class Limits(unittest.TestCase):
    def test_values_are_read_from_constants_and_properties(self) -> None:
        for text, value in (
            ("pub const LIMIT: usize = 131_072;", 131_072),
            ("const LIMIT: u64 = 256 * 1024 * 1024;", 268_435_456),
            ("const LIMIT: Duration = Duration::from_mins(1);", 60),
            ("      LIMIT: 15\n", 15),
            ('  "LIMIT": 20,\n', 20),
            ("LIMIT = 100000\n", 100_000),
        ):
            self.assertEqual(limits.set_values("LIMIT", text), {value})

    def test_another_value_and_a_constant_that_has_gone_are_found(self) -> None:
        text = "pub const LIMIT: usize = 131_072;"
        self.assertEqual(limits.check("131,072 bytes", "a.rs", "LIMIT", text), [])
        self.assertEqual(len(limits.check("131,073 bytes", "a.rs", "LIMIT", text)), 1)
        self.assertEqual(len(limits.check("131,072 bytes", "a.rs", "OTHER", text)), 1)


if __name__ == "__main__":
    unittest.main()
