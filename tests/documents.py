"""The fenced blocks of a Markdown page, and running them as a reader would who pastes them into `aikeys dev -- bash`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.realparts.process import clean_environment

ROOT = Path(__file__).resolve().parents[1]
AIKEYS = [sys.executable, "-m", "aikeys"]
ENVIRONMENT = clean_environment(PATH=str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
#: The block that a guide begins with: what follows it is pasted into that shell.
DEV_SHELL = "aikeys dev -- bash"
_MARK = "--- step"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int

    def steps(self) -> list[tuple[str, str]]:
        """Of a console block each command with what it shows."""
        return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", self.text, re.MULTILINE)


def blocks(page: Path) -> list[Block]:
    """All of them in order, of whatever language ("" where none is given)."""
    text = page.read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(match[1], match[2], text.count("\n", 0, match.start()) + 1) for match in found]


def in_dev(
    *command: str, seconds: float = 90, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`aikeys dev -- command`, in the checkout."""
    return subprocess.run(
        [*AIKEYS, "dev", "--", *command],
        cwd=ROOT, env={**ENVIRONMENT, **(environment or {})}, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


def shows(expected: str, actual: str) -> bool:
    """Whether it is what the page shows; `…` stands for what differs between two runs, in a line or for whole lines."""
    lines = [re.escape(line).replace("…", ".*") for line in expected.strip().splitlines()]
    pattern = "\n".join("(?s:.*?)" if line == ".*" else line + " *" for line in lines)
    return re.fullmatch(pattern, actual.strip()) is not None


def run_guide(page: Path, environment: Mapping[str, str] | None = None) -> list[str]:
    """Paste every block of the page, one after the other, into one shell of `aikeys dev`; what went wrong, as sentences.

    An `sh` block has to succeed. A command of a `console` block has to show what the page shows, and to fail only
    where that begins with "Error".
    """
    first, *rest = blocks(page)
    if (first.language, first.text.strip()) != ("sh", DEV_SHELL):
        return [f"the first block is not {DEV_SHELL!r}"]
    script = ["set -u"]
    expected: list[tuple[str, str | None]] = []
    for block in rest:
        if block.language not in {"sh", "console"}:
            return [f"line {block.line}: nobody runs a block of {block.language!r}"]
        steps: list[tuple[str, str | None]] = [*block.steps()] if block.language == "console" else []
        for command, output in steps or [(block.text, None)]:
            # Braces, not parentheses: what is exported or changed into stays so for the next.
            script.append(f"{{ {command.strip()}\n}} 2>&1\n__ended=$?; echo; echo '{_MARK}' $__ended")
            expected.append((command.strip(), output))
    shown = in_dev("bash", "-c", "\n".join(script), environment=environment)
    printed = re.split(rf"^{_MARK} (\d+)\n", _COLOURS.sub("", shown.stdout), flags=re.MULTILINE)
    problems = []
    for number, (command, output) in enumerate(expected):
        if 2 * number + 1 >= len(printed):
            problems.append(f"$ {command}\nwas not reached\n{shown.stderr[-2000:]}")
            break
        actual, status = printed[2 * number], int(printed[2 * number + 1])
        fails = output is not None and output.startswith("Error")
        if (status != 0) is not fails or (output is not None and not shows(output, actual)):
            problems.append(f"$ {command}\nended with {status} and showed\n{actual}")
    return problems
