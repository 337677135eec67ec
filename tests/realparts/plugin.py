"""Pytest plugin: a part that cannot run here is named with its reason, and is a failure where it has to run.

A test (or fixture) that raises :class:`~tests.realparts.requirements.PartMissing` is skipped and listed under
"Not run here" at the end of the run. Where ``AIKEYS_REQUIRE`` names the part it fails instead. With
``AIKEYS_REQUIRE=all`` nothing at all may be skipped, whatever the reason given.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Generator

import pytest
from tests.realparts.requirements import REQUIRE_VARIABLE, PartMissing, everything_required, required_parts

SECTION = "Not run here"
PROPERTY = "part-missing"


def pytest_configure(config: pytest.Config) -> None:
    try:
        required_parts()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a script's background jobs have it: what is started here would ignore a Ctrl-C as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Outermost, so that it sees what is final: an expected failure is no skip.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, PartMissing):
        # On the report rather than in a global: so it reaches the process that prints the summary.
        item.user_properties.append((PROPERTY, (error.part, error.reason)))
        if error.part not in required_parts():
            said = str(error)
            call.excinfo = pytest.CallInfo[None].from_call(lambda: pytest.skip(said), call.when).excinfo
    report = yield
    if everything_required() and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = _refused(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if everything_required() and report.skipped:
        report.outcome = "failed"
        report.longrepr = _refused(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List each missing part with each reason and the number of tests that went without it."""
    tests: dict[tuple[str, str], set[str]] = defaultdict(set)
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == PROPERTY:
                    part, reason = value
                    tests[part, reason].add(report.nodeid)
    if not tests:
        return
    terminalreporter.section(SECTION)
    for (part, reason), nodes in sorted(tests.items()):
        count = "1 test" if len(nodes) == 1 else f"{len(nodes)} tests"
        terminalreporter.line(f"{part}: {reason} ({count})")


def _refused(report: pytest.TestReport | pytest.CollectReport) -> str:
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return f"{REQUIRE_VARIABLE}=all lets nothing be skipped: {why}"
