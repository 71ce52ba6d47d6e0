"""`python -m tools.scaling`: prints the tables of docs/scaling.md, or brings them up to date."""

import os

from flaxgan.commands import cli

if __name__ == "__main__":
    # the tables are about eight devices, whatever this machine has
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"
    cli.prepare_process(0)
    from tools.scaling.command import main

    cli.run(main)
