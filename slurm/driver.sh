#!/usr/bin/env bash
# The driver as a job of its own, for login nodes that end long processes. From the project's folder:
#   sbatch slurm/driver.sh                                        the default grid
#   sbatch slurm/driver.sh --configfile config/mine.yaml          another one
# It only submits and watches. Ended by its time limit it may be submitted again, and goes on.
#SBATCH --job-name=clarity-driver
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=2-00:00:00
#SBATCH --output=clarity-driver-%j.log
# As Ctrl-C does, two minutes before the time is over: Snakemake then cancels its jobs and ends.
#SBATCH --signal=B:INT@120
set -euo pipefail
# What Slurm tells this job of itself must not be taken for that of the jobs it submits.
for name in "${!SLURM_@}"; do
    [ "$name" = SLURM_CONF ] || unset "$name"
done
# In the shell's place, so that the signal reaches it.
exec .venv/bin/snakemake --profile slurm "$@"
