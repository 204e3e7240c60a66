# Evaluation: all metrics on the maps of every method, jobs as in attribution.
rule evaluate:
    input:
        model=f"{RUN}/model.safetensors",
        evaluation=f"{DATASET}/evaluation.safetensors",
        attributions=[
            f"{RUN}/method={method}/attributions.safetensors" for method in METHODS_OF_A_JOB
        ],
    output:
        update([f"{RUN}/method={method}/scores.parquet" for method in METHODS_OF_A_JOB]),
    log:
        f"{RESULTS}/logs/evaluate/{{dataset}}-{{loss}}-{{seed}}{LOG_OF_A_JOB}.log",
    conda:
        "../envs/clarity.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 120 * attempt,
    params:
        methods=methods_of,
        metrics={name: recipe.plain() for name, recipe in CONFIG.metrics.items()},
        passes={
            "batch_size": CONFIG.evaluation.batch_size,
            "memory": CONFIG.evaluation.memory,
        },
        # What each metric took, beside the logs: no result, since it is not the same again.
        costs=f"{RESULTS}/logs/costs/dataset={{dataset}}/loss={{loss}}/seed={{seed}}",
        runtime={"device": CONFIG.device, "threads": CONFIG.threads},
        code=lambda w: code_of(
            "clarity.stages.evaluate",
            methods_of(w),
            {name: recipe.plain() for name, recipe in CONFIG.metrics.items()},
        ),
    script:
        "../scripts/evaluate.py"
