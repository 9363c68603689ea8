"""Checks that the worker's features agree with its code, without a build of each of them.

    features.py [WORKER]

Each type of handler is a feature, and the modules below `handlers/TYPE` are compiled with that feature alone. So a crate
that only some features bring may be used in their modules only, and no type may use the modules of another one. Prints
every finding, and ends with status 1 if there is one. `make check-features` builds the worker with each feature.
"""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main(worker: pathlib.Path) -> int:
    findings = check(worker)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def check(worker: pathlib.Path) -> list[str]:
    manifest = tomllib.loads((worker / "Cargo.toml").read_text())
    features = {name: set(parts) for name, parts in manifest["features"].items()}
    types = set(features) - {"default"}
    sources = {path: path.read_text() for path in sorted((worker / "src").rglob("*.rs"))}

    findings = [
        f"feature {name} is not a default one" for name in sorted(types - features["default"])
    ]
    for path, text in sources.items():
        named = set(re.findall(r'feature = "([\w-]+)"', text))
        findings += [f"{path}: there is no feature {name}" for name in sorted(named - types)]
        findings += foreign_types(path, text, types)

    optional = [name for name, about in manifest["dependencies"].items() if is_optional(about)]
    for crate in optional:
        bringing = {name for name in types if f"dep:{crate}" in features[name]}
        if not bringing:
            findings.append(f"no feature brings {crate}")
        use = re.compile(rf"\b{crate.replace('-', '_')}::")
        findings += [
            f"{path}: uses {crate}, which only {', '.join(sorted(bringing))} bring"
            for path, text in sources.items()
            if use.search(text) and type_of(path) not in bringing
        ]
    return findings


def is_optional(about: object) -> bool:
    return isinstance(about, dict) and about.get("optional", False)


def type_of(path: pathlib.Path) -> str:
    """The type of handler that a file belongs to; empty for a file that is always compiled."""
    parts = path.with_suffix("").parts
    return parts[parts.index("handlers") + 1] if "handlers" in parts[:-1] else ""


def foreign_types(path: pathlib.Path, text: str, types: set[str]) -> list[str]:
    own = type_of(path)
    uses = re.findall(r"\bhandlers::(\w+)::|\bsuper::(\w+)::", text) if own in types else []
    foreign = {name for pair in uses for name in pair if name in types - {own}}
    return [f"{path}: uses {name}, which is another feature" for name in sorted(foreign)]


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "worker"))
