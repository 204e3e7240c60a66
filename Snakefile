# CLarity: datasets x losses x seeds x methods -> training, attribution, evaluation, comparison.
#
# A cell is a folder, results/dataset=D/loss=L/seed=S/method=M/; any file in it can be asked for by
# its path. The whole grid: snakemake --cores all. Another grid: --configfile config/NAME.yaml, which
# replaces config.yaml as a whole.
from snakemake.utils import min_version

min_version("9.25")

# A config given on the command line stands alone: merged with the default one, it would keep the
# default's datasets and losses.
if "datasets" not in config:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/attribute.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


# On a cluster, GPU jobs wait for the scheduler, not for each other.
resource_scopes:
    gpu="local",


localrules:
    all,


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        tables("comparisons"),
        figures(),
