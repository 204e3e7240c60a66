# Figures from tables and samples, and the page that shows them all.
rule figures:
    input:
        tables(),
        cells("attributions.safetensors"),
        runs("history.parquet"),
        runs("geometry.parquet"),
        runs("trust.parquet"),
        runs("predictions.parquet"),
        runs("embeddings.safetensors"),
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
        runs("manifest.json"),
        runs("predictions.parquet"),
        shown_cells("attributions.safetensors"),
        shown_cells("scores.parquet"),
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
