"""What every test may ask for: the real parts (tests/realparts/fixtures.py), and the rules for those that are missing and
for secrets in what a run leaves behind."""

pytest_plugins = ["pytester", "tests.realparts.plugin", "tests.realparts.fixtures", "tests.canaries"]
