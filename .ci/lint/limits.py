"""Compares the values in docs/limits.md with the code and the template, which set them.

    limits.py

A row of that page names a file and a constant, or a property of a template, a state machine or a configuration, in its
fourth column. Its second column must contain the value.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = "docs/limits.md"
ROW = re.compile(r"\| [^|]* \| (?P<value>[^|]*) \| [^|]* \| `(?P<file>[^`]+)` `(?P<name>\w+)` \|")
SECONDS = {"from_secs": 1, "from_mins": 60, "from_hours": 3600}


def main() -> int:
    rows = ROW.finditer((ROOT / PAGE).read_text())
    findings, count = [], 0
    for count, row in enumerate(rows, 1):
        path = ROOT / row["file"]
        text = path.read_text() if path.exists() else ""
        findings += check(row["value"], row["file"], row["name"], text)
    if count < 20:
        findings.append(f"{PAGE}: only {count} rows name what sets their value")
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def check(stated: str, file: str, name: str, text: str) -> list[str]:
    """The finding for one row, if the file sets another value or none."""
    values = set_values(name, text)
    numbers = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", stated)}
    if not values:
        return [f"{PAGE}: {file} does not set {name}"]
    if not values & numbers:
        return [f"{PAGE}: {name} is {sorted(values)} in {file}, and {stated!r} on the page"]
    return []


def set_values(name: str, text: str) -> set[int]:
    """The values that a Rust constant or a template's property of this name has, in bytes, seconds or as they are."""
    values = set()
    for found in re.finditer(rf"const {name}: [\w:]+ =\s*([^;]+);", text):
        expression = found[1].replace("_", "")
        duration = re.fullmatch(
            r"\w+::(\w+)\((\d+)\)",
            re.sub(r"\bfrom(secs|mins|hours)\b", r"from_\1", expression),
        )
        if duration:
            values.add(SECONDS[duration[1]] * int(duration[2]))
        elif re.fullmatch(r"[\d *]+", expression):
            product = 1
            for factor in expression.split("*"):
                product *= int(factor)
            values.add(product)
    # A property of YAML or JSON, or a key of TOML.
    values |= {int(found) for found in re.findall(rf'\b{name}(?:"?:| =) (\d+)', text)}
    return values


if __name__ == "__main__":
    sys.exit(main())
