"""A relay that speaks the holysheep key API and can be made to fail on purpose.

It is a process of its own (``aikeys relay-simulator``): Flask on gunicorn, one worker process that owns the
whole state in memory, two listening ports at most (two data-plane nodes on one state). It shares no code with
the drivers, so that what one side gets wrong the other one refuses.

The story, from the inside out:

``clock`` ``identifiers`` ``errors`` ``settings``
    what time it is, what things are called, how a refusal looks, what can be set.
``keys`` ``registry`` ``budgets`` ``limits`` ``usage`` ``idempotency`` ``signing`` ``access``
    the records and the rules, without IO.
``account``
    all of the state behind one lock.
``fields`` ``key_writes`` ``key_reads`` ``self_service`` ``catalogue`` ``completions``
    what each endpoint decides.
``dispatch``
    the order in which a call is admitted, checked, committed and answered.
``faults`` ``calls`` ``plane``
    what goes wrong on purpose, what was asked, and the WSGI layer that does both.
``api_management`` ``api_data`` ``api_sim`` ``app`` ``worker`` ``server`` ``command`` ``process`` ``control``
    the thin outside: routes, gunicorn, command line, and what starts and steers it from a test.
"""
