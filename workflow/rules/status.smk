# What there is and what is missing, at any time: also while another Snakemake runs, since what makes
# no files takes no lock.
rule status:
    log:
        f"{RESULTS}/logs/status.log",
    localrule: True
    conda:
        "../envs/clarity.yaml"
    params:
        root=RESULTS,
        axes=AXES,
        jobs=CONFIG.jobs,
        shards=CONFIG.shards,
    script:
        "../scripts/status.py"


# Whether each file is what was written; reads all of them.
rule verify:
    log:
        f"{RESULTS}/logs/verify.log",
    localrule: True
    conda:
        "../envs/clarity.yaml"
    params:
        root=RESULTS,
        axes=AXES,
    script:
        "../scripts/verify.py"


# What the grid will need, by what jobs of these results, or of others, took.
rule plan:
    log:
        f"{RESULTS}/logs/plan.log",
    localrule: True
    conda:
        "../envs/clarity.yaml"
    params:
        root=CONFIG.costs or RESULTS,
        axes=AXES,
        metrics=list(METRICS),
        jobs=CONFIG.jobs,
        shards=CONFIG.shards,
        rules=JOBS_AFTER_RUNS,
        threads=CONFIG.threads,
    script:
        "../scripts/plan.py"
