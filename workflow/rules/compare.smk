# Comparison: every table, from the scores of the whole grid. A grid of more files than one job should
# name is worked through in two levels: what the runs of a dataset tell, and each dataset and method;
# then all of them. The tables are the same.
if TWO_LEVELS:

    rule gather_models:
        input:
            # Of what training writes one file stands for all.
            lambda w: runs("predictions.parquet", dataset=w.dataset),
            lambda w: runs(TRUST, dataset=w.dataset),
        output:
            [f"{RESULTS}/{file}" for file in parts_files("{dataset}")],
        log:
            f"{RESULTS}/logs/gather/{{dataset}}.log",
        conda:
            "../envs/clarity.yaml"
        resources:
            mem_mb=lambda w, attempt: 3000 * attempt,
            runtime=lambda w, attempt: 30 * attempt,
        params:
            root=lambda w: RESULTS,
            axes=lambda w: {**AXES, "datasets": [w.dataset]},
            code=stage_hash("clarity.stages.gather"),
        script:
            "../scripts/gather.py"

    rule gather_block:
        input:
            rules.gather_models.output,
            lambda w: cells(SCORES, dataset=w.dataset, method=w.method),
        output:
            [f"{RESULTS}/{file}" for file in parts_files("{dataset}", "{method}")],
        log:
            f"{RESULTS}/logs/gather/{{dataset}},{{method}}.log",
        conda:
            "../envs/clarity.yaml"
        resources:
            mem_mb=lambda w, attempt: 3000 * attempt,
            runtime=lambda w, attempt: 30 * attempt,
        params:
            root=lambda w: RESULTS,
            axes=lambda w: {**AXES, "datasets": [w.dataset], "methods": [w.method]},
            compared=COMPARED,
            code=stage_hash("clarity.stages.gather"),
        script:
            "../scripts/gather.py"


rule compare:
    input:
        compared_files(),
    output:
        in_report(tables(), ".csv", "Tables"),
    log:
        f"{RESULTS}/logs/compare.log",
    conda:
        "../envs/clarity.yaml"
    # Processes that read and compare; no part of the result.
    threads: 4
    resources:
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        root=lambda w: RESULTS,
        folder=lambda w: f"{RESULTS}/tables",
        axes=AXES,
        compared=COMPARED,
        gathered=TWO_LEVELS,
        code=stage_hash("clarity.stages.compare"),
    script:
        "../scripts/compare.py"


# Tables of what there is now, when some jobs failed or are still to come. It has no output, so that it
# can be asked for at any time, and writes to partial/, out of the way of the whole grid's tables.
rule partial_tables:
    name:
        "tables-partial"
    log:
        f"{RESULTS}/logs/tables-partial.log",
    localrule: True
    conda:
        "../envs/clarity.yaml"
    params:
        root=lambda w: RESULTS,
        folder=lambda w: f"{RESULTS}/partial/tables",
        axes=AXES,
        compared=COMPARED,
        gathered=False,
    script:
        "../scripts/compare.py"
