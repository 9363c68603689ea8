"""Makes and fetches the bundle of a release: the template with the built functions, which deploys without a Rust toolchain.

    package.py make BUILT OUTPUT --version 1.2.3 --architecture arm64
    package.py fetch OUTPUT --version 1.2.3 --architecture arm64 [--from URL]

`make` takes the functions' binaries from BUILT/NAME/bootstrap, where `cargo lambda build` puts them (target/lambda), and
writes OUTPUT/postern-VERSION-ARCHITECTURE.zip and its SHA-256. `fetch` downloads that file from the release, checks the
SHA-256, and unpacks it into OUTPUT, where `sam deploy` works.
"""

import argparse
import hashlib
import io
import pathlib
import re
import sys
import urllib.request
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
ALSO = ("samconfig.toml", "LICENSE-APACHE", "LICENSE-MIT")
# The oldest time that a ZIP archive can hold: the same files then make the same archive.
TIME = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    arguments = parse()
    if arguments.action == "make":
        make(arguments)
    else:
        fetch(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("make", "fetch"):
        action = actions.add_parser(name)
        if name == "make":
            action.add_argument("built", type=pathlib.Path)
        else:
            action.add_argument("--from", dest="source", help="the address of the release's files")
        action.add_argument("output", type=pathlib.Path)
        action.add_argument("--version", required=True, type=version)
        action.add_argument("--architecture", default="arm64", choices=("arm64", "x86_64"))
    return parser.parse_args()


def version(text: str) -> str:
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as 1.2.3")
    return text


def bundle_name(arguments: argparse.Namespace) -> str:
    return f"postern-{arguments.version}-{arguments.architecture}.zip"


# ---- Make ------------------------------------------------------------------------------------------------------------


def make(arguments: argparse.Namespace) -> None:
    template, functions = bundled_template(
        (ROOT / "template.yml").read_text(), arguments.architecture
    )
    files = {"template.yml": template.encode()}
    for name in functions:
        files[f"functions/{name}.zip"] = function_zip(arguments.built / name / "bootstrap")
    machines = [str(path.relative_to(ROOT)) for path in ROOT.glob("statemachines/**/*.json")]
    for path in (*ALSO, *machines):
        files[path] = (ROOT / path).read_bytes()

    arguments.output.mkdir(parents=True, exist_ok=True)
    bundle = arguments.output / bundle_name(arguments)
    bundle.write_bytes(archive(files))
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    (arguments.output / f"{bundle.name}.sha256").write_text(f"{digest}  {bundle.name}\n")
    print(f"{bundle}: {len(functions)} functions, SHA-256 {digest}")


def bundled_template(template: str, architecture: str) -> tuple[str, list[str]]:
    """Returns the template with archives in the place of sources, and the functions' names."""
    functions: list[str] = []

    def code(found: re.Match) -> str:
        functions.append(found["binary"])
        return f"{found['between']}      CodeUri: functions/{found['binary']}.zip\n"

    metadata = (
        r"    Metadata:\n      BuildMethod: rust-cargolambda\n      BuildProperties:\n"
        r"        Binary: (?P<binary>[\w-]+)\n(?P<between>(?:.*\n)*?)      CodeUri: \.\n"
    )
    template = re.sub(metadata, code, template)
    if not functions or re.search(r"CodeUri: \.$|rust-cargolambda", template, re.MULTILINE):
        sys.exit("template.yml: a function has another form than the others; see bundled_template")

    # The bundle contains the binaries for one processor, so the parameter must not offer the other one.
    chosen = "    Default: arm64\n    AllowedValues: [arm64, x86_64]\n"
    if template.count(chosen) != 1:
        sys.exit("template.yml: the parameter Architecture has another form; see bundled_template")
    only = f"    Default: {architecture}\n    AllowedValues: [{architecture}]\n"
    return template.replace(chosen, only), functions


def function_zip(binary: pathlib.Path) -> bytes:
    if not binary.exists():
        sys.exit(f"{binary} does not exist; build it with cargo lambda build --release")
    return archive({"bootstrap": binary.read_bytes()}, mode=0o755)


def archive(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    """A ZIP archive whose bytes depend on the files alone."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, TIME)
            entry.create_system, entry.external_attr = 3, mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, files[name], compresslevel=9)
    return packed.getvalue()


# ---- Fetch -----------------------------------------------------------------------------------------------------------


def fetch(arguments: argparse.Namespace) -> None:
    source = arguments.source or f"{repository()}/releases/download/v{arguments.version}"
    name = bundle_name(arguments)
    expected = download(f"{source}/{name}.sha256").decode().split()[0]
    content = download(f"{source}/{name}")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        sys.exit(f"{name} is damaged: its SHA-256 is {found}; it must be {expected}")

    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        bundle.extractall(arguments.output)
    print(f"{arguments.output} is ready: cd {arguments.output} && sam deploy")


def repository() -> str:
    manifest = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^repository = "([^"]+)"', manifest, re.MULTILINE)[1].removesuffix(".git")


def download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.read()
    except OSError as error:
        sys.exit(f"{url} cannot be downloaded: {error}")


if __name__ == "__main__":
    main()
