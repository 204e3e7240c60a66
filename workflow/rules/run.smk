# All stages of a training run in one job, or of as many as `shards` says, of one dataset and loss:
# torch and the data are loaded once. Each stage takes up what it would make just so again, so a changed
# metric trains nothing anew. Seeds are told by name in the paths of a rule, hence a rule a shard; a
# new seed changes none but the last.
FILES_OF_A_RUN = [
    *TRAINED,
    RECORD,
    TRUST,
    *(f"method={method}/{name}" for method in CONFIG.methods for name in (MAPS, SCORES)),
]


# Rule, label of a job's log and seeds of a shard. Without shards the seed is a wildcard, and one rule
# serves all.
SHARDS = [("run", "{seed}", [])]
if CONFIG.shards > 1:
    SHARDS = [(f"run-{label}", label, part) for label, part in CONFIG.grid.shards(CONFIG.shards)]
    # What a profile or the command line sets for the rule `run` holds for that of each shard.
    for settings in (
        workflow.resource_settings.overwrite_resources,
        workflow.resource_settings.overwrite_threads,
    ):
        if "run" in settings:
            settings.update(
                {name: settings["run"] for name, _, _ in SHARDS if name not in settings}
            )

for rule_name, label, shard in SHARDS:

    rule:
        name:
            rule_name
        input:
            f"{DATASET}/data.safetensors",
            f"{DATASET}/evaluation.safetensors",
            lambda w: weights_of(w.dataset, w.loss),
            lambda w: foreign_to(w.dataset),
        output:
            [
                f"{DATASET}/loss={{loss}}/seed={seed}/{name}"
                for seed in shard or ["{seed}"]
                for name in FILES_OF_A_RUN
            ],
        log:
            f"{RESULTS}/logs/run/{{dataset}},{{loss}},{label}.log",
        conda:
            "../envs/clarity.yaml"
        threads: CONFIG.threads
        resources:
            gpu=GPU,
            mem_mb=lambda w, attempt: 3000 * attempt,
            runtime=lambda w, attempt, shard=shard: 120 * max(len(shard), 1) * attempt,
        params:
            root=lambda w: RESULTS,
            runs=lambda w, shard=shard: whole_runs(w.dataset, w.loss, seeds_of(w, shard)),
            maps=STORED,
            metrics=METRICS,
            passes=PASSES,
            runtime=RUNTIME,
        script:
            "../scripts/run.py"
