"""Snakemake with a look at its remote jobs each second: python fastpoll.py ARGUMENTS.

The Slurm plugin waits ten seconds longer after each look that saw no job end, up to three minutes.
That is right for a cluster that others use too, and nothing in a profile turns it off.
"""

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda _: 1, lambda _, __: None)

if __name__ == "__main__":
    main()
