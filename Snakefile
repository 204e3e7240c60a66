# CLarity: datasets x losses x seeds x methods -> training, attribution, evaluation, comparison.
#
# A cell is a folder, results/dataset=D/loss=L/seed=S/method=M/; any file in it can be asked for by
# its path. The whole grid: snakemake --cores all. Another grid: --configfile config/NAME.yaml, which
# stands in for config.yaml as a whole.
from snakemake.utils import min_version

min_version("9.25")

# Merged with the default grid, another one would keep the default's datasets and losses.
if "datasets" not in config:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/slurm.smk"
include: "workflow/rules/data.smk"


if CONFIG.jobs == "run":

    include: "workflow/rules/run.smk"

else:

    include: "workflow/rules/train.smk"
    include: "workflow/rules/trust.smk"
    include: "workflow/rules/attribute.smk"
    include: "workflow/rules/evaluate.smk"


include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/status.smk"


report: "workflow/report/workflow.rst"


# Locally, `--resources gpu=N` bounds the GPU jobs; on a cluster each job asks for its own.
resource_scopes:
    gpu="local",


# One driver at a time works on results; targets that make no files, such as status, may always run.
onstart:
    hold_results()
    outlive_the_controller()


rule all:
    default_target: True
    input:
        tables(),
        figures(),
        f"{RESULTS}/report.html",
    localrule: True


rule train_all:
    name:
        "train-all"
    input:
        lambda w: runs("manifest.json"),
        lambda w: runs("trust.parquet"),
    localrule: True


rule attribute_all:
    name:
        "attribute-all"
    input:
        lambda w: cells("attributions.safetensors"),
    localrule: True


rule evaluate_all:
    name:
        "evaluate-all"
    input:
        lambda w: cells("scores.parquet"),
    localrule: True
