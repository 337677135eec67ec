"""What the sidecar costs beside the parts it stands next to: ``make bench``. Never part of ``make test``.

One run measures ours and each peer in turns (ours, peer, ours, peer) on the same machine and reports ratios, so that
a slow machine or a busy moment counts against both. The figures go to ``docs/benchmarks.md``.

``figures`` is the arithmetic, ``processes`` what the kernel says of CPU and memory, ``load`` the load generator,
``peers`` and ``ours`` what is measured, ``scenarios`` the runs, ``timing`` where the time goes, ``report`` the page.
"""
