"""Checks that no function's release binary has grown unnoticed: python3 .ci/lint/sizes.py FOLDER

The limits, in bytes, are in sizes.toml. A binary that shrinks by more than a tenth must lower its limit, so that the gate
stays tight.
"""

import sys
import tomllib
from pathlib import Path

LIMITS = Path(__file__).with_name("sizes.toml")


def problems(sizes: dict, limits: dict) -> list:
    """What is wrong with the sizes of the binaries, as sentences."""
    found = [f"{name} has no limit in sizes.toml" for name in sizes.keys() - limits.keys()]
    found += [f"{name} was not built" for name in limits.keys() - sizes.keys()]
    for name in sizes.keys() & limits.keys():
        size, limit = sizes[name], limits[name]
        if size > limit:
            found.append(f"{name} has {size:,} bytes, and its limit is {limit:,}")
        elif size < limit * 0.9:
            found.append(f"{name} has {size:,} bytes: lower its limit of {limit:,}")
    return sorted(found)


def main():
    folder = Path(sys.argv[1])
    functions = [path.parent.name for path in Path("functions").glob("*/Cargo.toml")]
    sizes = {name: (folder / name).stat().st_size for name in functions if (folder / name).exists()}
    found = problems(sizes, tomllib.loads(LIMITS.read_text()))
    print("\n".join(f"{name:16} {size:>10,} bytes" for name, size in sorted(sizes.items())))
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
