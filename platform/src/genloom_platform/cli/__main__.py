"""`python -m genloom_platform.cli`: the same as `genloom`."""

from genloom_platform.cli.app import main

main()
