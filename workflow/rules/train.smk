# Training: one run for each dataset, loss and seed.
rule train:
    input:
        data=f"{DATASET}/data.safetensors",
        evaluation=f"{DATASET}/evaluation.safetensors",
        weights=lambda w: CONFIG.datasets[w.dataset].for_loss(w.loss).encoder.weights or [],
    output:
        model=f"{RUN}/model.safetensors",
        history=f"{RUN}/history.parquet",
        predictions=f"{RUN}/predictions.parquet",
        geometry=f"{RUN}/geometry.parquet",
        embeddings=f"{RUN}/embeddings.safetensors",
        manifest=f"{RUN}/manifest.json",
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
        training=lambda w: CONFIG.datasets[w.dataset].training_part(w.loss),
        loss=lambda w: CONFIG.losses[w.loss].plain(),
        runtime={"device": CONFIG.device, "threads": CONFIG.threads},
        code=lambda w: code_of(
            "clarity.stages.train",
            CONFIG.datasets[w.dataset].training_part(w.loss),
            CONFIG.losses[w.loss].plain(),
        ),
    script:
        "../scripts/train.py"
