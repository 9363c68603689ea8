"""The check of the worker's features must fail on what it is there for."""

import pathlib
import tempfile
import unittest

import features

MANIFEST = """
[features]
default = ["files", "sql"]
files = ["dep:cap-std"]
sql = []

[dependencies]
bytes.workspace = true
cap-std = { workspace = true, optional = true }
"""


class Features(unittest.TestCase):
    def findings(self, manifest: str = MANIFEST, **files: str) -> list[str]:
        """The findings in a worker with these files; `a__b` is a/b.rs."""
        with tempfile.TemporaryDirectory() as folder:
            worker = pathlib.Path(folder)
            (worker / "Cargo.toml").write_text(manifest)
            for name, text in files.items():
                path = worker / "src" / (name.replace("__", "/") + ".rs")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return features.check(worker)

    def test_a_crate_in_the_modules_of_its_feature_passes(self) -> None:
        use = "use cap_std::fs::Dir;\n"
        gate = '#[cfg(feature = "files")]\nmod files;\n'
        found = self.findings(handlers=gate, handlers__files=use, handlers__files__operations=use)
        self.assertEqual(found, [])

    def test_a_crate_elsewhere_is_found(self) -> None:
        for file in ("claim", "handlers", "handlers__sql", "handlers__sql__rows"):
            found = self.findings(**{file: "use cap_std::fs::Dir;\n"})
            self.assertEqual(len(found), 1)
            self.assertIn("uses cap-std, which only files bring", found[0])

    def test_one_type_in_another_is_found(self) -> None:
        for use in ("use super::sql::Sql;\n", "use crate::handlers::sql::Sql;\n"):
            found = self.findings(handlers__files=use)
            self.assertEqual(len(found), 1)
            self.assertIn("uses sql", found[0])

    def test_a_table_that_does_not_agree_is_found(self) -> None:
        found = self.findings(MANIFEST.replace('["dep:cap-std"]', "[]"))
        self.assertEqual(found, ["no feature brings cap-std"])
        found = self.findings(MANIFEST.replace('["files", "sql"]', '["files"]'))
        self.assertEqual(found, ["feature sql is not a default one"])
        found = self.findings(handlers='#[cfg(feature = "ftp")]\nmod ftp;\n')
        self.assertEqual(len(found), 1)
        self.assertIn("there is no feature ftp", found[0])
