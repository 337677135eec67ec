"""`python -m aikeys`."""

from aikeys.cli import main

main()
