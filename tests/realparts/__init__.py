"""The real programs the tests run against: servers, container engine, browser, database.

Nothing in here imitates a part. A part that cannot run on this machine raises
:class:`~tests.realparts.requirements.PartMissing`, which the pytest plugin beside it turns into a listed skip
("Not run here"), or into a failure where ``AIKEYS_REQUIRE`` names the part.
"""
