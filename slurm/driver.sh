#!/usr/bin/env bash
# The driver as a job of its own, for login nodes that end long processes:
#   sbatch slurm/driver.sh                                        the default grid
#   sbatch slurm/driver.sh --configfile config/mine.yaml          another one
# It only submits and watches. Ended by its time limit it may be submitted again, and goes on.
#SBATCH --job-name=clarity-driver
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=2-00:00:00
#SBATCH --output=logs/driver-%j.log
# Before the time is over: Snakemake then ends its jobs and itself in order.
#SBATCH --signal=B:INT@120
set -euo pipefail
# What sbatch set for this job must not be taken for that of the jobs it submits.
unset "${!SLURM_@}" "${!SBATCH_@}"
.venv/bin/snakemake --profile slurm "$@" &
trap 'kill -INT %1' INT TERM
wait %1 || wait %1
