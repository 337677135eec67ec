"""A part that cannot run is named with its reason, and fails the run where it is required."""

from collections.abc import Callable

import pytest
from tests.realparts.requirements import PARTS, PartMissing, required_parts

Run = Callable[[str, str], pytest.RunResult]

MISSING_VAULT = """
    import pytest
    from tests.realparts.requirements import missing

    @pytest.fixture(scope="session")
    def vault():
        missing("vault", "no Go here")

    def test_one(vault): pass
    def test_two(vault): pass
    def test_inside(): missing("chromium", "no browser here")
    def test_without(): pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the given module in a pytest of its own with the plugin and ``AIKEYS_REQUIRE``."""

    def run_it(module: str, require: str) -> pytest.RunResult:
        monkeypatch.setenv("AIKEYS_REQUIRE", require)
        pytester.makepyfile(module)
        return pytester.runpytest_inprocess("-p", "tests.realparts.plugin", "-p", "no:cacheprovider")

    return run_it


def test_a_missing_part_is_skipped_and_listed_with_its_reason_once(run: Run) -> None:
    result = run(MISSING_VAULT, "")

    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(
        ["*= Not run here =*", "chromium: no browser here (1 test)", "vault: no Go here (2 tests)"]
    )


def test_a_required_part_that_is_missing_fails_and_the_others_stay_skipped(run: Run) -> None:
    result = run(MISSING_VAULT, "vault, openbao")

    result.assert_outcomes(passed=1, skipped=1, errors=2)
    result.stdout.fnmatch_lines(["*PartMissing: vault: no Go here*", "vault: no Go here (2 tests)"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_all_requires_every_part(run: Run) -> None:
    result = run(MISSING_VAULT, "all")

    result.assert_outcomes(passed=1, failed=1, errors=2)


def test_all_lets_no_other_skip_through_either(run: Run) -> None:
    result = run(
        """
        import pytest
        def test_quiet(): pytest.skip("not in the mood")
        @pytest.mark.skip(reason="marked")
        def test_marked(): pass
        @pytest.mark.xfail(strict=True)
        def test_known(): assert False
        """,
        "all",
    )

    # Skips outside the test's own phase (a mark is looked at in the set-up) are reported as errors.
    result.assert_outcomes(failed=1, errors=1, xfailed=1)
    result.stdout.fnmatch_lines(["*AIKEYS_REQUIRE=all lets nothing be skipped: *marked*"])


def test_all_lets_no_module_be_skipped_at_its_import(run: Run) -> None:
    result = run(
        """
        import pytest
        pytest.importorskip("a_module_that_is_not_there")
        def test_never(): pass
        """,
        "all",
    )

    result.assert_outcomes(errors=1)
    assert result.ret != 0


def test_an_ordinary_skip_stays_one_when_only_some_parts_are_required(run: Run) -> None:
    result = run("import pytest\ndef test_quiet(): pytest.skip('later')", "vault")

    result.assert_outcomes(skipped=1)
    assert "Not run here" not in result.stdout.str()


def test_a_misspelt_requirement_ends_the_run_before_it_starts(run: Run) -> None:
    result = run("def test_fine(): pass", "vualt")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*AIKEYS_REQUIRE names unknown parts*vualt*chromium*"])


def test_the_list_of_required_parts_is_read_with_commas_and_blanks() -> None:
    assert required_parts("") == frozenset()
    assert required_parts(" vault ,docker,") == {"vault", "docker"}
    assert required_parts("vault-container") == {"vault-container", "docker"}
    assert required_parts("all") == required_parts("vault,all") == set(PARTS)


def test_only_parts_that_exist_can_be_missing() -> None:
    with pytest.raises(ValueError, match="no real part is called 'redis'"):
        PartMissing("redis", "never heard of it")
