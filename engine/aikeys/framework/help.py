"""The help texts, in the words and the layout of Vault's templates (sdk/framework/path.go, backend.go)."""

from __future__ import annotations

from collections.abc import Sequence

from aikeys.framework.paths import Path

_PATHS = """\
The following paths are supported by this backend. To view help for
any of the paths below, use the help command with any route matching
the path pattern. Note that depending on the policy of your auth token,
you may or may not be able to access certain paths."""


def root_help(description: str, paths: Sequence[Path]) -> str:
    """Help on the mount itself: what it is, and every pattern with its synopsis."""
    listed = [
        f"{_indent(4, path.anchored)}\n{_indent(8, path.synopsis.strip())}\n"
        for path in sorted(paths, key=lambda path: path.anchored)
    ]
    return (
        f"## DESCRIPTION\n\n{description.strip()}\n\n## PATHS\n\n{_PATHS}\n\n{chr(10).join(listed)}".strip()
    )


def path_help(path: Path, requested: str) -> str:
    """Help on one path: what matched, what it is for, its parameters."""
    lines = [
        f"Request:        {requested}",
        f"Matching Route: {path.anchored}",
        "",
        path.synopsis.strip() or "<no synopsis>",
        "",
    ]
    if path.fields:
        lines += ["## PARAMETERS", ""]
        for name in sorted(path.fields):
            item = path.fields[name]
            text = item.description.strip() or "<no description>"
            if item.deprecated:
                text = f"(DEPRECATED) {text}"
            lines += [f"    {name} ({item.type.value})", "", _indent(8, text), ""]
    lines += ["## DESCRIPTION", "", path.description.strip() or "<no description>"]
    return "\n".join(lines).strip()


def _indent(width: int, text: str) -> str:
    return "\n".join(" " * width + line for line in text.splitlines())
