"""Checks how the code is arranged: files that import each other, headers, lengths, retired names, and error
names that the documentation does not explain.

    structure.py [ROOT]

Prints every finding as `FILE: what is wrong`, and ends with status 1 if there is one. Test code may import
whatever it tests, so files named tests.rs and modules under `#[cfg(test)]` are left out.
"""

import pathlib
import re
import sys

LONGEST_FILE = 400
# Names that the project no longer uses, as whole words, each with the word in its place.
GONE = {
    r"mends?|mended|mend_\w+": "patch",
    r"Letters?": "InvocationRecord",
    r"PATIENCE": "TIMEOUT",
    r"signs_of_life": "heartbeats",
    r"SEED_(INPUT|OUTPUT)": "SAMPLE_INPUT, SAMPLE_OUTPUT",
    r"CloudOptions": "EmulatorOptions",
    r"main_loop": "cli",
    r"(postern|local)[-_/]?ministack": "local/emulator",
    r"grip-stack|grip_stack": "postern-pushpin",
    r"(?<!postern-)grip-bench|postern-bench-kafka": "postern-grip-bench, postern-kafka-bench",
    r"postern-local-lambda|postern_local_lambda": "postern-lambda",
    r"Settings::read|Config::read|config::key": "Config::from_env",
}
SAYS_OLD_NAMES = {"CHANGELOG.md", "structure.py", "test_structure.py"}
TEXT = {".rs", ".py", ".md", ".yml", ".toml", ".json", ""}
LITERAL = re.compile(r'r(#*)".*?"\1|"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


def main(root: pathlib.Path) -> int:
    findings = []
    for manifest in sorted(root.glob("*/Cargo.toml")) + sorted(root.glob("*/*/Cargo.toml")):
        source = manifest.parent / "src"
        if source.is_dir():
            findings += check_crate(source)
    findings += undocumented_errors(root) + old_names(root)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def check_crate(source: pathlib.Path) -> list[str]:
    """The findings in one crate: its files, and the imports between them."""
    root = "lib" if (source / "lib.rs").exists() else "main"
    files = {module_of(path, source, root): path for path in sorted(source.rglob("*.rs"))}
    findings, imports = [], {}
    for module, path in files.items():
        text = path.read_text()
        findings += check_file(path, text)
        if path.stem != "tests" and "tests" not in module:
            imports[module] = imports_of(module, text, files)
    for cycle in cycles(imports):
        names = " -> ".join(str(files[module]) for module in [*cycle, cycle[0]])
        findings.append(f"{files[cycle[0]]}: files import each other: {names}")
    return findings


def check_file(path: pathlib.Path, text: str) -> list[str]:
    findings = []
    header = re.match(r"(//![^\n]*\n)+", text)
    lines = text.count("\n")
    if not header and path.stem != "tests":
        findings.append(f"{path}: the file has no `//!` that says what it is for")
    if lines > LONGEST_FILE and "lines" not in (header.group(0) if header else ""):
        findings.append(
            f"{path}: {lines} lines, and the header gives no reason for more than {LONGEST_FILE}"
        )
    if "#[path" in text:
        findings.append(f"{path}: #[path] includes a file of elsewhere")
    if path.name == "mod.rs":
        findings.append(f"{path}: name the file after its module, not mod.rs")
    return findings


def module_of(path: pathlib.Path, source: pathlib.Path, root: str) -> tuple[str, ...]:
    """`journal/store.rs` is ("journal", "store"), and the root of the crate is ()."""
    parts = path.relative_to(source).with_suffix("").parts
    return () if parts == (root,) else parts


def imports_of(module: tuple[str, ...], text: str, files: dict) -> set[tuple[str, ...]]:
    """The files of the crate that a file names in `use` or in a path, its own children through `mod` left out."""
    text = LITERAL.sub('""', text)
    text = re.sub(r"#\[cfg\(test\)\]\s*(pub(\(crate\))? )?mod \w+ \{.*", "", text, flags=re.DOTALL)
    found = set()
    for path in paths_of(text):
        absolute = resolve(path, module)
        if absolute is None:
            continue
        prefixes = [absolute[:n] for n in range(len(absolute) + 1)]
        longest = next((prefix for prefix in reversed(prefixes) if prefix in files), module)
        if longest != module:
            found.add(longest)
    return found


def paths_of(text: str) -> list[list[str]]:
    """Every path that begins with crate, super or self, braces expanded; and `pub use child::...`."""
    paths = []
    for statement in re.findall(r"\buse\s+([^;]+);", text):
        paths += expand(re.sub(r"\s+", "", statement))
    body = re.sub(r"\buse\s+[^;]+;", "", text)
    paths += [path.split("::") for path in re.findall(r"\b(?:crate|super|self)(?:::\w+)+", body)]
    return paths


def expand(path: str) -> list[list[str]]:
    """`a::{b, c::{d}}` as [[a, b], [a, c, d]]."""
    head, brace, rest = path.partition("{")
    if not brace:
        return [re.sub(r"as\w+$", "", head).split("::")] if head else []
    prefix, depth, items, item = head.rstrip(":").split("::"), 0, [], ""
    for letter in rest[: rest.rfind("}")]:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            items.append(item)
            item = ""
        else:
            item += letter
    return [[*prefix, *tail] for item in [*items, item] if item for tail in expand(item)]


def resolve(path: list[str], module: tuple[str, ...]) -> tuple[str, ...] | None:
    """The absolute path within the crate, or None for a path into another crate."""
    if path[0] == "crate":
        return tuple(path[1:])
    base = list(module)
    if path[0] in ("super", "self"):
        while path and path[0] in ("super", "self"):
            if path[0] == "super" and base:
                base.pop()
            path = path[1:]
        return tuple(base + path)
    # `use child::Item` in the file that declares `mod child`.
    return tuple([*module, *path]) if len(path) > 1 else None


def cycles(imports: dict) -> list[list]:
    """One cycle for each group of files that reach each other."""
    found, done = [], set()
    for start in imports:
        trail, seen = [(start, iter(sorted(imports[start])))], [start]
        while trail:
            node, targets = trail[-1]
            target = next(targets, None)
            if target is None:
                done.add(node)
                trail.pop()
                seen.pop()
            elif target in seen:
                cycle = seen[seen.index(target) :]
                if not any(set(cycle) & set(other) for other in found):
                    found.append(cycle)
            elif target in imports and target not in done:
                trail.append((target, iter(sorted(imports[target]))))
                seen.append(target)
    return found


def undocumented_errors(root: pathlib.Path) -> list[str]:
    """Names such as "Worker.Failed" in the code of functions and worker, without a line in the documentation."""
    pages = [
        root / page
        for page in (
            "docs/errors.md",
            "docs/handlers.md",
            "docs/grip.md",
            "docs/kafka/reference.md",
        )
    ]
    explained = "".join(page.read_text() for page in pages if page.exists())
    sources = [*root.glob("functions/*/src/**/*.rs"), *root.glob("worker/src/**/*.rs")]
    names = {}
    for path in sorted(path for path in sources if "tests" not in path.with_suffix("").parts):
        text = re.sub(r"#\[cfg\(test\)\]\s*mod \w+ \{.*", "", path.read_text(), flags=re.DOTALL)
        text = re.sub(r"^\s*//.*", "", text, flags=re.MULTILINE)
        for name in re.findall(r'"([A-Z][A-Za-z0-9]+\.[A-Z][A-Za-z]+)"', text):
            names.setdefault(name, path.relative_to(root))
    return [
        f"{path}: {name} is in no table of {pages[0].relative_to(root)}"
        for name, path in names.items()
        if f"`{name}`" not in explained
    ]


def old_names(root: pathlib.Path) -> list[str]:
    findings = []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        skip = {"target", ".git", ".postern", "node_modules", "testdata"} & set(relative.parts)
        if skip or not path.is_file() or path.suffix not in TEXT or path.name in SAYS_OLD_NAMES:
            continue
        text = path.read_text(errors="replace")
        for old, new in GONE.items():
            for match in re.finditer(rf"(?<![\w-])(?:{old})(?![\w-])", text):
                line = text.count("\n", 0, match.start()) + 1
                findings.append(f"{relative}:{line}: {match.group(0)} is called {new}")
    return findings


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
