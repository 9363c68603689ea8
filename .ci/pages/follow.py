"""Follows a page of the documentation to the letter, in a copy of the repository, and fails where the page is wrong.

    follow.py docs/add-a-function.md

A page says what to do in sentences of three kinds, each with a fenced block after it:

- "Create `FILE`" writes the block into a new file.
- "In `FILE`, add after `TEXT`" inserts the block after the first line that contains the text.
- A block of the language `sh` is run; a block of the language `text` after it has lines that the output contains.

The copy is `.postern/pages/NAME`. It uses the tools and the target directory of the repository, so that nothing is
installed twice. Whatever the page starts, the page stops.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w*)\n(?P<text>.*?)```\n", re.DOTALL)


def main() -> None:
    page = pathlib.Path(sys.argv[1]).resolve()
    copy = copy_repository(page.stem)
    output, files = "", set()
    for block in BLOCK.finditer(page.read_text()):
        text = block["text"]
        if create := re.search(r"Create `([^`]+)`", block["before"]):
            write(copy / create[1], text)
            files.add(create[1])
        elif add := re.search(r"In `([^`]+)`, add after `([^`]+)`", block["before"]):
            insert(copy / add[1], add[2], text)
            files.add(add[1])
        elif block["language"] == "sh":
            output = run(text, copy)
        elif block["language"] == "text":
            missing = [line for line in text.splitlines() if line.strip() not in output]
            if missing:
                sys.exit(f"{page.name}: the output lacks {missing[0].strip()!r}:\n{output}")
        else:
            sys.exit(f"{page.name}: what is to be done with the block after {block['before']!r}?")
    shutil.rmtree(copy)
    print(f"OK: {page.relative_to(ROOT)} is right; it touches {len(files)} files")


def copy_repository(name: str) -> pathlib.Path:
    """A fresh copy of the files that git knows or would know, with the tools of this repository."""
    copy = ROOT / ".postern" / "pages" / name
    shutil.rmtree(copy, ignore_errors=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".postern").mkdir()
    for tool in ROOT.glob(".postern/*venv"):
        (copy / ".postern" / tool.name).symlink_to(tool.resolve())
    return copy


def write(path: pathlib.Path, text: str) -> None:
    if path.exists():
        sys.exit(f"{path} is there already: the page creates it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def insert(path: pathlib.Path, after: str, text: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    at = next((number for number, line in enumerate(lines, 1) if after in line), None)
    if at is None:
        sys.exit(f"{path} has no line with {after!r}")
    path.write_text("".join([*lines[:at], text, *lines[at:]]))


def run(commands: str, copy: pathlib.Path) -> str:
    print(commands, end="", flush=True)
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    environment = os.environ | {"CARGO_TARGET_DIR": str(pathlib.Path(target).resolve())}
    shell = ["bash", "-euo", "pipefail", "-c", commands]
    done = subprocess.run(
        shell,
        cwd=copy,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        sys.exit(f"the commands failed with status {done.returncode}:\n{commands}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main()
