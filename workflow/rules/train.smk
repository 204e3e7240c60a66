# Training: one run for each dataset, loss and seed.
rule train:
    input:
        f"{DATASET}/data.safetensors",
        f"{DATASET}/evaluation.safetensors",
        lambda w: weights_of(w.dataset, w.loss),
    output:
        [f"{RUN}/{name}" for name in (*TRAINED, RECORD)],
    log:
        f"{RESULTS}/logs/train/{LOG_OF_A_RUN}",
    conda:
        "../envs/clarity.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        root=lambda w: RESULTS,
        runs=lambda w: [{**vars(run_of(w)), **to_train(w.dataset, w.loss)}],
        runtime=RUNTIME,
    script:
        "../scripts/train.py"
