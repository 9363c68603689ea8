"""Checks that the programs which build and deploy the stack are new enough.

    check_tools.py

Older SAM CLIs build Rust functions only with `--beta-features`, and older cargo-lambdas do not know the Rust edition.
"""

import re
import subprocess
import sys

LEAST = {
    "the SAM CLI": (["sam", "--version"], (1, 151)),
    "cargo-lambda": (["cargo-lambda", "lambda", "--version"], (1, 8)),
}


def main() -> None:
    problems = [found for name in LEAST if (found := problem(name))]
    if problems:
        sys.exit("\n".join(problems))
    print("OK: the tools are new enough")


def problem(name: str) -> str:
    command, least = LEAST[name]
    wanted = ".".join(map(str, least))
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return f"{name} is not installed; install version {wanted} or newer"
    except subprocess.CalledProcessError as error:
        return f"{' '.join(command)} fails: {error.stderr.strip()}"
    return too_old(name, said, least)


def too_old(name: str, said: str, least: tuple[int, int]) -> str:
    """Returns the problem with the version in a program's output, or an empty text."""
    found = re.search(r"(\d+)\.(\d+)(\.\d+)*", said)
    if not found:
        return f"{name} does not tell its version: {said.strip()!r}"
    if (int(found[1]), int(found[2])) < least:
        wanted = ".".join(map(str, least))
        return f"{name} is version {found[0]}; install {wanted} or newer"
    return ""


if __name__ == "__main__":
    main()
