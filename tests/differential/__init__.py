"""The differential run: a real server's own `database` engine and ours, asked the same, must answer the same.

`worlds` are the two sides, `pair` asks both at once, `compare` says what counts as the same, `allowed` lists the
differences there are on purpose, `machine` makes up what is asked.
"""
