# Data: the splits of each dataset and the evaluation images that all its models explain.
rule prepare:
    input:
        # Files of boxes and the user's own pictures of two classes; whole folders are not followed.
        lambda w: CONFIG.datasets[w.dataset].described_in(CONFIG.data),
    output:
        data=f"{DATASET}/data.safetensors",
        evaluation=f"{DATASET}/evaluation.safetensors",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    conda:
        "../envs/clarity.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 20 * attempt,
    params:
        recipe=lambda w: recipe_of("datasets", w.dataset),
        data=lambda w: CONFIG.data if CONFIG.datasets[w.dataset].reads_folders else None,
        evaluation={
            "images": CONFIG.evaluation.images,
            "scene_images": CONFIG.evaluation.scenes,
        },
        code=lambda w: code_of("clarity.stages.prepare", recipe_of("datasets", w.dataset)),
    script:
        "../scripts/prepare.py"
