"""Lists the dependencies of each function and of the worker as CycloneDX, one file for each.

    sbom.py CARGO_CYCLONEDX OUTPUT

cargo-cyclonedx writes a file beside the manifest of every crate of the workspace. This script keeps those of the
programs that a release contains, and deletes the others.
"""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = "sbom-of-this-crate"


def main() -> None:
    program, output = sys.argv[1], pathlib.Path(sys.argv[2])
    command = [program, "cyclonedx", "--format", "json", "--spec-version", "1.5"]
    try:
        subprocess.run(
            [*command, "--override-filename", FILE],
            cwd=ROOT,
            check=True,
            # The same commit then has the same list.
            env={**os.environ, "SOURCE_DATE_EPOCH": commit_time()},
        )
        for manifest in [*sorted(ROOT.glob("functions/*/Cargo.toml")), ROOT / "worker/Cargo.toml"]:
            keep(manifest.with_name(f"{FILE}.json"), output)
    finally:
        for left in ROOT.glob(f"**/{FILE}.json"):
            left.unlink()


def commit_time() -> str:
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def keep(written: pathlib.Path, output: pathlib.Path) -> None:
    # The references of our own crates contain their paths on this machine.
    text = written.read_text().replace(str(ROOT), "")
    about, components = json.loads(text)["metadata"]["component"], json.loads(text)["components"]
    nameless = [one["name"] for one in components if not one.get("purl")]
    if len(components) < 10 or nameless:
        sys.exit(
            f"{about['name']}: {len(components)} components, without a package URL: {nameless}"
        )

    target = output / f"{about['name']}-{about['version']}.cdx.json"
    target.write_text(text)
    print(f"{target}: {len(components)} components")


if __name__ == "__main__":
    main()
