"""`python -m library` is `directions`."""

from library.cli import main

main(prog_name="directions")
