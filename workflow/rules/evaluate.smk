# Evaluation: all metrics on the maps of every method, jobs as in attribution.
rule evaluate:
    input:
        f"{RUN}/model.safetensors",
        f"{DATASET}/evaluation.safetensors",
        [f"{RUN}/method={method}/{MAPS}" for method in METHODS_OF_A_JOB],
    output:
        [f"{RUN}/method={method}/{SCORES}" for method in METHODS_OF_A_JOB],
    log:
        f"{RESULTS}/logs/evaluate/{LOG_OF_A_JOB}",
    conda:
        "../envs/clarity.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 120 * attempt,
    params:
        root=lambda w: RESULTS,
        runs=lambda w: [{**vars(run_of(w)), **to_evaluate(*methods_of(w))}],
        metrics=METRICS,
        passes=PASSES,
        runtime=RUNTIME,
    script:
        "../scripts/evaluate.py"
