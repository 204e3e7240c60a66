# Attribution: signed maps of every method. One job explains a model by all methods (jobs: model) or
# by one (jobs: cell); the files are the same. Cells that would be made just so again are taken up.
rule attribute:
    input:
        f"{RUN}/model.safetensors",
        f"{RUN}/predictions.parquet",
        f"{DATASET}/evaluation.safetensors",
    output:
        [f"{RUN}/method={method}/{MAPS}" for method in METHODS_OF_A_JOB],
    log:
        f"{RESULTS}/logs/attribute/{LOG_OF_A_JOB}",
    conda:
        "../envs/clarity.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        root=lambda w: RESULTS,
        runs=lambda w: [{**vars(run_of(w)), **to_attribute(*methods_of(w))}],
        maps=STORED,
        runtime=RUNTIME,
    script:
        "../scripts/attribute.py"
