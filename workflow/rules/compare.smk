# Comparison: every table, from the scores of the whole grid.
rule compare:
    input:
        cells("scores.parquet"),
        runs("predictions.parquet"),
        runs("geometry.parquet"),
        runs("history.parquet"),
        runs("trust.parquet"),
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
    script:
        "../scripts/compare.py"
