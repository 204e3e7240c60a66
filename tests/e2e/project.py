"""A copy of the project with a tiny grid, and Snakemake as a user calls it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]

TINY = {
    "results": "results/tiny",
    "jobs": "model",
    "seeds": [0],
    "evaluation": {"images": 8, "scenes": 4, "correct-only": False},
    "statistics": {"resamples": 200},
    "datasets": {
        "scenes": {
            "source": "scenes",
            "classes": 4,
            "train-images": 200,
            "test-images": 40,
            "epochs": 1,
            "batch-size": 60,
        }
    },
    "losses": {
        "cross-entropy": {},
        "supcon": {"loss": "SupConLoss", "temperature": 0.1, "views": 2},
    },
    "methods": {
        "gradcam": {"method": "LayerGradCam"},
        "integrated-gradients": {
            "method": "IntegratedGradients",
            "n_steps": 4,
            "baseline": "black",
        },
        "random": {"method": "RandomMap"},
    },
    "metrics": {
        "pixel-flipping": {"metric": "PixelFlipping", "features_in_step": 128},
        "faithfulness-correlation": {
            "metric": "FaithfulnessCorrelation",
            "nr_runs": 8,
            "subset_size": 64,
        },
        "max-sensitivity": {"metric": "MaxSensitivity", "nr_samples": 2, "lower_bound": 0.02},
        "random-logit": {"metric": "RandomLogit"},
        "relevance-mass": {"metric": "RelevanceMassAccuracy"},
        "mprt": {"metric": "MPRT", "points": 2},
        "deletion": {
            "metric": "ContrastiveDeletion",
            "steps": 4,
            "settings": {"black": {}, "mean": {"perturb_baseline": "mean"}},
        },
        "target-sensitivity": {"metric": "TargetSensitivity"},
        "discriminative-mass": {"metric": "DiscriminativeMass"},
    },
}


#: The metrics that this makes: an entry with settings makes one of each.
METRICS = [
    f"{name}-{setting}" if setting else name
    for name, recipe in TINY["metrics"].items()
    for setting in recipe.get("settings", [""])
]


class Project:
    """A copy of the project in a folder of its own, so that its source can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("src", "workflow", "profiles", "config", "slurm"):
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        for name in ("Snakefile", "config.yaml"):
            shutil.copy2(ROOT / name, folder / name)
        self.configure()

    def configure(self, **changes: object) -> None:
        """Write tiny.yaml, the tiny grid with some sections replaced."""
        self.grid = {**TINY, **changes}
        text = yaml.safe_dump(self.grid, sort_keys=False)
        (self.folder / "tiny.yaml").write_text(text)

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", "--cores", str(cores)),
            *("--configfile", "tiny.yaml", "--nocolor", *arguments),
        ]

    @property
    def environment(self) -> dict[str, str]:
        # The copy's source wins over the installed one.
        return {**os.environ, "PYTHONPATH": str(self.folder / "src")}

    def start(self, *arguments: str, cores: int = 2) -> subprocess.Popen[str]:
        """Start Snakemake, in a group of processes of its own, and go on."""
        with open(self.folder / "driver.log", "w") as log:
            return subprocess.Popen(
                self.command(*arguments, cores=cores),
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def run(self, *arguments: str, cores: int = 2, check: bool = True) -> str:
        """Call Snakemake and return all that it printed."""
        done = subprocess.run(
            self.command(*arguments, cores=cores),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        logs = self.folder.glob("results/*/logs/**/*.log")
        failed = "\n".join(log.read_text() for log in logs) if done.returncode and check else ""
        assert not check or done.returncode == 0, f"{done.stdout}\n{failed}"
        return done.stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return the jobs of each rule that a dry run plans."""
        text = self.run("--dry-run", *arguments)
        if "Nothing to be done" in text:
            return {}
        table = text.split("Job stats:")[1].split("\n\n")[0].splitlines()
        rows = (line.split() for line in table if line.strip())
        counts = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
        counts.pop("total", None)
        counts.pop("all", None)
        return counts

    def artifacts(self, results: str) -> dict[str, bytes]:
        """Return the bytes of every file whose bytes are promised, by its path."""
        root = self.folder / results
        kinds = ("*.safetensors", "*.parquet", "tables/*.csv", "tables/*.tex")
        files = [file for kind in kinds for file in sorted(root.rglob(kind))]
        # How long it took is not the same again.
        promised = [file for file in files if file.stem != "run-times"]
        return {str(file.relative_to(root)): file.read_bytes() for file in promised}
