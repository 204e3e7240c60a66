# Trust: calibration and robustness of each model, and how it takes images of another dataset.
rule trust:
    input:
        f"{RUN}/model.safetensors",
        f"{DATASET}/data.safetensors",
        lambda w: foreign_to(w.dataset),
    output:
        f"{RUN}/{TRUST}",
    log:
        f"{RESULTS}/logs/trust/{LOG_OF_A_RUN}",
    conda:
        "../envs/clarity.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        root=lambda w: RESULTS,
        runs=lambda w: [{**vars(run_of(w)), **to_trust(w.dataset)}],
        runtime=RUNTIME,
    script:
        "../scripts/trust.py"
