# What the Slurm plugin (2.8) needs to outlive a controller that is away, such as when it is restarted.
#
# Asked for `squeue`, the plugin reads MinJobAge before each look, and turns to `sacct` when nobody
# answers; without accounting sacct fails too. After some failed looks it forgets the running jobs, and
# Snakemake waits for them for ever. Here both questions are asked until there is an answer.
import asyncio
import subprocess
import time
from importlib.metadata import version

#: Seconds between two questions, between two words about it, and until the first answer.
PAUSE, WORD, FIRST = 5, 300, 60
#: Seconds that finished jobs stay in squeue, unless a site says otherwise.
MIN_JOB_AGE = 300


def outlive_the_controller():
    """Let the plugin ask until it is answered, if this process watches jobs on Slurm."""
    if not workflow.is_main_process or "slurm" not in str(workflow.executor_plugin.name):
        return
    import snakemake_executor_plugin_slurm as plugin

    try:
        ask_for_age, ask_for_states = plugin.get_min_job_age, plugin.query_job_status
    except AttributeError as error:
        raise WorkflowError(
            f"workflow/rules/slurm.smk: found snakemake-executor-plugin-slurm {version(plugin.__name__)} "
            f"({error}), wanted one like 2.8"
        ) from None
    told = {"last": -WORD, "answered": None}

    def answers(*command):
        """Whether a program of Slurm ends well."""
        try:
            return not subprocess.run(command, capture_output=True, timeout=30).returncode
        except (OSError, subprocess.TimeoutExpired):
            return False

    def tell(since):
        """Say from time to time that Slurm does not answer."""
        now = time.monotonic()
        if now - told["last"] >= WORD:
            told["last"] = now
            logger.warning(
                f"Slurm has not answered for {now - since:.0f} s. Its jobs go on meanwhile; they are "
                f"looked for again until it does. Does `squeue` work here?"
            )

    def age_when_it_answers():
        """Return what `scontrol show config` says of MinJobAge, as soon as it says something.

        Where users may not ask, it is None after a while, by which the plugin turns to sacct; without
        accounting, Slurm's default, by which it stays with squeue.
        """
        since = time.monotonic()
        while (age := ask_for_age()) is None and told["answered"] is not False:
            late = told["answered"] is None and time.monotonic() - since > FIRST
            if late and answers("squeue", "--me", "--noheader"):
                told["answered"] = False
                break
            tell(since)
            time.sleep(PAUSE)
        if age is None:
            return None if answers("sacct", "--noheader", "--allocations") else MIN_JOB_AGE
        told["answered"] = True
        return age

    async def states_when_it_answers(command, log):
        """Return what became of the jobs, as soon as squeue or sacct says it."""
        since = time.monotonic()
        while (found := await ask_for_states(command, log)) == (None, None):
            tell(since)
            await asyncio.sleep(PAUSE)
        return found

    plugin.get_min_job_age = age_when_it_answers
    plugin.query_job_status = states_when_it_answers
