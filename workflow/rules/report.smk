# Figures from tables and samples, and the page that shows them all. Of the files of runs and cells,
# those of the first seed are shown; the tables, which depend on all, stand for the others.
FIRST = {"seed": CONFIG.seeds[0]}


rule figures:
    input:
        tables(),
        cells(MAPS, **FIRST),
        runs("embeddings.safetensors", **FIRST),
        evaluation_sets(),
    output:
        in_report(figures(), ".svg", "Figures"),
    log:
        f"{RESULTS}/logs/figures.log",
    conda:
        "../envs/clarity.yaml"
    # Processes that draw; no part of the result.
    threads: 4
    resources:
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        root=lambda w: RESULTS,
        folder=lambda w: f"{RESULTS}/figures",
        axes=AXES,
        compared=COMPARED,
        code=stage_hash("clarity.stages.figures"),
    script:
        "../scripts/figures.py"


rule report:
    input:
        tables(),
        figures(),
        runs("predictions.parquet", **FIRST),
        cells(MAPS, **FIRST),
        cells(SCORES, **FIRST),
        evaluation_sets(),
    output:
        report(
            f"{RESULTS}/report.html",
            category="Report",
            caption="../report/report.rst",
        ),
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/clarity.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        root=lambda w: RESULTS,
        config=CONFIG.plain(),
        axes=AXES,
        shown=SHOWN,
        code=stage_hash("clarity.stages.report"),
    script:
        "../scripts/report.py"
