# Attribution: signed maps of every method. One job explains a model by all methods (jobs: model) or
# by one (jobs: cell); the files are the same. A job keeps the cells that are up to date, so its
# outputs are updated, not deleted beforehand.
rule attribute:
    input:
        model=f"{RUN}/model.safetensors",
        evaluation=f"{DATASET}/evaluation.safetensors",
        predictions=f"{RUN}/predictions.parquet",
    output:
        update([f"{RUN}/method={method}/attributions.safetensors" for method in METHODS_OF_A_JOB]),
    log:
        f"{RESULTS}/logs/attribute/{{dataset}}-{{loss}}-{{seed}}{LOG_OF_A_JOB}.log",
    conda:
        "../envs/clarity.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        methods=methods_of,
        maps={
            "classes": CONFIG.evaluation.classes,
            "memory": CONFIG.evaluation.memory,
            "compress": CONFIG.evaluation.compress,
        },
        # What each method took, beside the logs: no result, since it is not the same again.
        costs=f"{RESULTS}/logs/costs/dataset={{dataset}}/loss={{loss}}/seed={{seed}}",
        runtime={"device": CONFIG.device, "threads": CONFIG.threads},
        code=lambda w: code_of("clarity.stages.attribute", methods_of(w)),
    script:
        "../scripts/attribute.py"
