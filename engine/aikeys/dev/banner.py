"""What `aikeys dev` prints, in the manner of `vault server -dev`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from aikeys.dev.demo import Demonstration
from aikeys.dev.stack import MOUNT, ROLE, Stack


def _line(console: Console, text: str) -> None:
    """One line, however long: it may be pasted, so it is neither wrapped nor coloured by guess."""
    console.print(text, highlight=False, soft_wrap=True)


def show_demonstration(console: Console, shown: Demonstration) -> None:
    _line(console, "\n[bold]The first key, from birth to refusal[/bold]\n")
    for step, what in (
        ("read", f"{MOUNT}/creds/{ROLE} gave {shown.key_hint} in {shown.read_ms:.0f} ms"),
        ("lease", f"{shown.lease_id}, {shown.lease_duration} s, renewable"),
        ("used", f"200, one chat completion of {len(shown.answer)} characters"),
        ("revoked", f"the lease, by sys/leases/revoke in {shown.revoke_ms:.0f} ms"),
        ("refused", f"{shown.refused_status} “{shown.refused_text}”"),
    ):
        _line(console, f"  {step:<8}{escape(what)}")


def show_banner(console: Console, stack: Stack) -> None:
    """Exports and three commands to paste. The root token is the development server's own, so it is shown."""
    environment = stack.environment()
    _line(
        console,
        "\n[bold yellow]WARNING! aikeys dev is for trying things out.[/bold yellow] Everything is in memory or in a\n"
        "temporary folder, and the root token is printed below. The relay is a simulator: it costs nothing.\n",
    )
    for name, value in (
        ("Sidecar", f"{stack.address}   talk to this one"),
        ("Vault behind it", stack.upstream_address),
        ("Relay", stack.relay_address),
        ("Database", str(stack.data_dir)),
    ):
        _line(console, f"  {name:<17}{escape(value)}")
    _line(console, "\nYou may need to set the following environment variables:\n")
    if shutil.which("bao") is None:
        # The client came with OpenBao's package, beside the interpreter that runs this.
        _line(console, f"    $ export PATH='{Path(sys.executable).parent}':$PATH")
    for name in ("VAULT_ADDR", "BAO_ADDR", "VAULT_TOKEN", "BAO_TOKEN"):
        _line(console, f"    $ export {name}='{environment[name]}'")
    _line(console, "\nThen, with `vault` in the place of `bao` if that is what you have:\n")
    for command in (
        f"bao read {MOUNT}/creds/{ROLE}",
        f"bao list sys/leases/lookup/{MOUNT}/creds/{ROLE}",
        f"bao lease revoke -prefix {MOUNT}/creds/{ROLE}",
    ):
        _line(console, f"    $ {command}")
    _line(console, "\nCtrl-C ends all of it.")
