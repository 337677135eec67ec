"""The command line of the simulator, for ``aikeys relay-simulator`` and ``python -m`` alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aikeys.relay_simulator.settings import AccountPolicy, SimulatorSettings


def relay_simulator(  # noqa: PLR0917 - typer makes options of them all
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    second_node_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="A second data-plane node on the same state; 0 takes a free port."
        ),
    ] = None,
    management_key: Annotated[
        str | None,
        typer.Option(
            envvar="AIKEYS_RELAY_MANAGEMENT_KEY",
            help="Generated, and printed, when absent.",
            show_envvar=True,
        ),
    ] = None,
    signing_secret: Annotated[
        str | None,
        typer.Option(
            envvar="AIKEYS_RELAY_SIGNING_SECRET", help="The management key's calls must be signed with it."
        ),
    ] = None,
    management_rpm: Annotated[
        int, typer.Option(min=0, help="Management calls per minute; 0 is unlimited.")
    ] = 60,
    management_burst: Annotated[int, typer.Option(min=1, help="How many of them may come at once.")] = 20,
    max_live_keys: Annotated[
        int, typer.Option(min=0, help="Live keys of the account; 0 is unlimited.")
    ] = 1000,
    revoke_lag_ms: Annotated[int, typer.Option(min=0, help="How long nodes still accept a revoked key.")] = 0,
    threads: Annotated[int, typer.Option(min=2, help="Calls that are carried out at the same time.")] = 64,
    seed: Annotated[int | None, typer.Option(help="Makes ids and secrets repeatable.")] = None,
    port_file: Annotated[
        Path | None,
        typer.Option(help="Where addresses and the management key are written as JSON, once it listens."),
    ] = None,
    sim: Annotated[bool, typer.Option("--sim/--no-sim", help="Serve /_sim/, to steer the simulator.")] = True,
    stop_with_stdin: Annotated[
        bool, typer.Option("--stop-with-stdin", help="End when standard input closes.")
    ] = False,
) -> None:
    """Run an AI relay with a key API on this machine, one that can be made to fail on purpose."""
    policy = AccountPolicy(
        management_rpm=management_rpm,
        management_burst=management_burst,
        max_live_keys=max_live_keys,
        revoke_lag_ms=(revoke_lag_ms, revoke_lag_ms),
        management_signature_required=signing_secret is not None,
    )
    settings = SimulatorSettings(
        host=host,
        port=port,
        second_node_port=second_node_port,
        management_key=management_key,
        signing_secret=signing_secret,
        seed=seed,
        control=sim,
        policy=policy,
        port_file=port_file,
        threads=threads,
        stop_with_stdin=stop_with_stdin,
    )
    from aikeys.relay_simulator.server import run  # gunicorn and Flask only when there is something to serve

    run(settings)
