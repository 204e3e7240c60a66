# Training: one run for each dataset, loss and seed. A run that is there and up to date is left as it
# is, so outputs are updated, not deleted beforehand.
rule train:
    input:
        f"{DATASET}/data.safetensors",
        f"{DATASET}/evaluation.safetensors",
        lambda w: weights_of(w.dataset, w.loss),
    output:
        update([f"{RUN}/{name}" for name in TRAINED]),
    log:
        f"{RESULTS}/logs/train/{{dataset}}-{{loss}}-{{seed}}.log",
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
