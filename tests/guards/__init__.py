"""Guards that are turned off one by one: each must have a test that goes red (``make guards``)."""
