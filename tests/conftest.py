"""What every test may ask for: the real parts (tests/realparts/fixtures.py) and the rule for those that are missing."""

pytest_plugins = ["pytester", "tests.realparts.plugin", "tests.realparts.fixtures"]
