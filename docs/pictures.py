"""Draws the state machines in docs/use-cases/*.md, as Mermaid, from their definitions.

    pictures.py [--check]

A page says where its picture goes with a pair of comments, `<!-- picture: NAME -->` and
`<!-- end of picture -->`, NAME being that of statemachines/NAME.asl.json. Each picture is drawn anew
in its place; with --check nothing is written, and the exit status is 1 where one is out of date.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(<!-- picture: (\S+) -->\n).*?(<!-- end of picture -->)", re.DOTALL)
SHAPES = {
    "Choice": ('{"', '"}'),
    "Fail": ('(["', '"])'),
    "Succeed": ('(["', '"])'),
    "Wait": ('[/"', '"/]'),
    "Pass": ('("', '")'),
}


class Picture:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.nodes = 0

    def add(self, depth: int, line: str) -> None:
        self.lines.append("  " * depth + line)

    def machine(self, machine: dict, depth: int) -> tuple[str, list[str]]:
        """Draws the states of a machine: the id of the first, and the ids of those that end it."""
        ids = {}
        for name in machine["States"]:
            ids[name] = f"s{self.nodes}"
            self.nodes += 1
        for name, state in machine["States"].items():
            self.state(ids[name], name, state, depth)
        for name, state in machine["States"].items():
            for target, label, arrow in ways_out(state):
                words = f'|"{label}"|' if label else ""
                self.add(depth, f"{ids[name]} {arrow}{words} {ids[target]}")
        ends = [ids[name] for name, state in machine["States"].items() if state.get("End")]
        return ids[machine["StartAt"]], ends

    def state(self, node: str, name: str, state: dict, depth: int) -> None:
        inner = list(state.get("Branches", []))
        if "ItemProcessor" in state:
            inner.append(state["ItemProcessor"])
        if inner:
            self.add(depth, f'subgraph {node}["{text(name)}"]')
            for machine in inner:
                self.machine(machine, depth + 1)
            self.add(depth, "end")
            return
        before, after = SHAPES.get(state["Type"], ('["', '"]'))
        label = text(name)
        if state.get("Retry"):
            label += "<br/>with retries"
        self.add(depth, f"{node}{before}{label}{after}")


def ways_out(state: dict) -> list[tuple[str, str, str]]:
    """Where a state can lead: the next state, words for the arrow, the arrow."""
    ways = [(choice["Next"], text(condition(choice)), "-->") for choice in state.get("Choices", [])]
    if "Default" in state:
        ways.append((state["Default"], "else", "-->"))
    if "Next" in state:
        ways.append((state["Next"], "", "-->"))
    for catch in state.get("Catch", []):
        ways.append((catch["Next"], "<br/>".join(map(text, catch["ErrorEquals"])), "-.->"))
    return ways


OPERATORS = {
    "BooleanEquals": "is",
    "StringEquals": "is",
    "NumericLessThan": "&lt;",
    "IsPresent": "is there:",
    "IsNumeric": "is a number:",
}


def condition(rule: dict) -> str:
    if "Condition" in rule:
        return rule["Condition"].strip("{% }")
    for word, joint in (("And", " and "), ("Or", " or ")):
        if word in rule:
            # That a field is there goes without saying where something else is said of it.
            parts = [part for part in rule[word] if "IsPresent" not in part] or rule[word]
            return joint.join(map(condition, parts))
    (operator,) = rule.keys() - {"Variable", "Next", "Comment"}
    value = json.dumps(rule[operator])
    return f"{rule['Variable'].removeprefix('$.')} {OPERATORS.get(operator, operator)} {value}"


def text(words: str) -> str:
    return words.replace('"', "&quot;")


def drawn(name: str) -> str:
    machine = json.loads((ROOT / "statemachines" / f"{name}.asl.json").read_text())
    picture = Picture()
    first, ends = picture.machine(machine, 1)
    picture.add(1, f"start((start)) --> {first}")
    for end in ends:
        picture.add(1, f"{end} --> finish((end))")
    return "\n".join(["```mermaid", "flowchart TD", *picture.lines, "```", ""])


def main() -> None:
    check, late, names = "--check" in sys.argv[1:], [], set()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        now = page.read_text()
        names.update(found[1] for found in PLACE.findall(now))
        then = PLACE.sub(lambda place: place[1] + drawn(place[2]) + place[3], now)
        if then != now:
            late.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(then)
    machines = {path.name.removesuffix(".asl.json") for path in ROOT.glob("statemachines/*.json")}
    if machines - names:
        sys.exit(f"no page shows {', '.join(sorted(machines - names))}")
    if check and late:
        sys.exit(f"pictures are out of date, `make pictures` draws them: {', '.join(late)}")


if __name__ == "__main__":
    main()
