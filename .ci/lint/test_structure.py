"""The structure check must fail on what it is there for."""

import pathlib
import tempfile
import unittest

import structure


class Structure(unittest.TestCase):
    def findings(self, **files: str) -> list[str]:
        """The findings in a crate with these files; `a__b` is a/b.rs. Each file gets a header."""
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "src"
            for name, text in files.items():
                path = source / (name.replace("__", "/") + ".rs")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("//! A file.\n" + text)
            return structure.check_crate(source)

    def test_files_in_one_direction_pass(self) -> None:
        lib = "mod a;\nmod b;\npub use a::A;\n"
        self.assertEqual(self.findings(lib=lib, a="use crate::b::B;\n", b="pub struct B;\n"), [])

    def test_two_files_that_import_each_other_are_found(self) -> None:
        found = self.findings(
            lib="mod a;\nmod b;\n", a="use crate::b::B;\n", b="use crate::a::{A, C};\n"
        )
        self.assertEqual(len(found), 1)
        self.assertIn("files import each other", found[0])

    def test_a_cycle_over_three_files_is_found(self) -> None:
        found = self.findings(
            lib="", a="use crate::b::B;\n", b="use super::c::C;\n", c="fn f() { crate::a::g() }\n"
        )
        self.assertEqual(len(found), 1)

    def test_an_import_from_the_file_above_is_found(self) -> None:
        found = self.findings(lib="mod a;\npub use a::A;\npub struct E;\n", a="use crate::E;\n")
        self.assertEqual(len(found), 1)

    def test_siblings_below_a_module_are_told_apart(self) -> None:
        files = {
            "lib": "mod a;\n",
            "a": "mod x;\nmod y;\nuse x::X;\n",
            "a__x": "use super::y::Y;\n",
            "a__y": "",
        }
        self.assertEqual(self.findings(**files), [])
        self.assertEqual(len(self.findings(**files | {"a__y": "use super::x::X;\n"})), 1)

    def test_test_code_may_import_what_it_tests(self) -> None:
        inline = "pub use a::A;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"
        self.assertEqual(self.findings(lib=inline, a="", tests="use crate::a::A;\n"), [])

    def test_texts_and_comments_are_no_imports(self) -> None:
        text = '// use crate::b::B;\nconst TEXT: &str = "use crate::b::B;";\n'
        self.assertEqual(self.findings(lib="", a=text, b="use crate::a::A;\n"), [])

    def test_a_long_file_needs_a_reason(self) -> None:
        self.assertIn("401 lines", self.findings(lib="\n" * 400)[0])

    def test_an_included_path_and_a_missing_header_are_found(self) -> None:
        self.assertIn("#[path]", self.findings(lib='#[path = "b.rs"]\nmod b;\n')[0])
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "lib.rs").write_text("fn f() {}\n")
            self.assertIn("no `//!`", structure.check_crate(pathlib.Path(folder))[0])

    def test_an_error_that_no_page_explains_is_found(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path in (root / "docs", root / "worker/src"):
                path.mkdir(parents=True)
            (root / "docs/errors.md").write_text("| `Worker.Failed` | ... |\n")
            (root / "worker/src/lib.rs").write_text(
                'const NAMES: [&str; 2] = ["Worker.Failed", "Worker.New"];\n'
            )
            found = structure.undocumented_errors(root)
            self.assertEqual(
                found, ["worker/src/lib.rs: Worker.New is in no table of docs/errors.md"]
            )

    def test_a_name_that_has_gone_is_found(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "README.md").write_text("a word\nthe mends of it\n")
            self.assertEqual(
                structure.old_names(pathlib.Path(folder)), ["README.md:2: mends is called patch"]
            )


if __name__ == "__main__":
    unittest.main()
