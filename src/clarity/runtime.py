"""Runtime: owns the device, the number of threads and what makes torch repeat its results."""

import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Before the threads are limited, which holds for what is loaded: scipy has an OpenBLAS of its own.
import scipy.linalg  # noqa: F401
import torch
from threadpoolctl import threadpool_limits

from clarity.locks import hold_least_used


@contextmanager
def deterministic(device: str, threads: int) -> Iterator[torch.device]:
    """Run a stage so that the same inputs give the same bytes, on the chosen device.

    The number of threads is part of the config and not of the machine's load: sums of floats split
    over another number of threads may round otherwise.

    Args:
        device: "cpu", "cuda", or "auto" for the GPU that the process was given, if any. Of several,
            it takes the one that the fewest jobs of this machine use, until the process ends.
        threads: threads for torch and for numpy's linear algebra.

    Yields:
        The device to work on.

    Raises:
        RuntimeError: if "cuda" is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device: found 'cuda' in the config, but torch sees no GPU here")
    chosen = "cuda" if device == "auto" and torch.cuda.is_available() else device
    # cuBLAS repeats its results only with a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.backends.cudnn.allow_tf32,
    )
    openmp = os.environ.get("OMP_NUM_THREADS")
    # For libraries that a stage loads when it needs them, such as scikit-learn.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    # `use_deterministic_algorithms` does the same after it has loaded the compiler: a second a job.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    # TensorFloat-32 keeps 10 bits of a product's factors: on an H100, similarities of maps moved by
    # 0.004 with the size of the batch. Where less precision is wanted, `precision` says so.
    torch.backends.cudnn.allow_tf32 = False
    try:
        with threadpool_limits(threads):
            if chosen == "cuda":
                torch.cuda.set_device(own_gpu(torch.cuda.device_count()))
            yield torch.device("cpu" if chosen == "auto" else chosen)
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        torch.backends.cudnn.allow_tf32 = before[2]
        os.environ.pop("OMP_NUM_THREADS")
        if openmp is not None:
            os.environ["OMP_NUM_THREADS"] = openmp


@functools.cache
def own_gpu(count: int) -> int:
    """Return which of the GPUs that torch sees is this process's, the same until it ends.

    On a cluster a job sees the GPUs that it was given; on one machine all jobs see all of them, and
    spread (`clarity.locks.hold_least_used`).
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    named = [name.strip() for name in given if name.strip()]
    gpus = (named or [str(number) for number in range(count)])[:count]
    return hold_least_used(gpus, Path(tempfile.gettempdir()) / f"clarity-gpus-{os.getuid()}")
