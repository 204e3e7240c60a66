# What there is and what is missing, at any time: also while another Snakemake runs, which the lock of
# a rule without files does not keep out.
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
