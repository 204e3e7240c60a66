# Trust: calibration and robustness of each model, and how it takes images of another dataset.
rule trust:
    input:
        model=f"{RUN}/model.safetensors",
        data=f"{DATASET}/data.safetensors",
        ood=lambda w: [
            f"{RESULTS}/dataset={other}/data.safetensors"
            for other in CONFIG.trust.part(w.dataset)["out-of-distribution"].values()
        ],
    output:
        f"{RUN}/trust.parquet",
    log:
        f"{RESULTS}/logs/trust/{{dataset}}-{{loss}}-{{seed}}.log",
    conda:
        "../envs/clarity.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        recipe=lambda w: CONFIG.trust.part(w.dataset),
        runtime={"device": CONFIG.device, "threads": CONFIG.threads},
        code=stage_hash("clarity.stages.trust"),
    script:
        "../scripts/trust.py"
