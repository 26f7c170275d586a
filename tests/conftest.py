"""Fixtures for all tests: the folder of third-party models and pictures, and what is installed here."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# One thread for NumPy's and PyTorch's arithmetic, here and in worker and child processes: arrays of tests are small, and threads that wait for each
# other on cores which all workers share take several times the processor time. Set before NumPy is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import fastsr

if TYPE_CHECKING:
    from cuda_emulator import Emulator

# The same examples in every run; `pytest --hypothesis-profile=search` draws others each time.
hypothesis.settings.register_profile(
    "fixed", derandomize=True, database=None, deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("search", hypothesis.settings.get_profile("fixed"), derandomize=False)
hypothesis.settings.load_profile("fixed")

# Shells start background jobs with SIGINT ignored, and child processes of the tests would inherit that: they are interrupted, and must stop.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("FASTSR_SHARED") or ROOT.parent / "shared").resolve()


def pytest_collection_finish() -> None:
    """What exists before the tests stays: collections of garbage, of which tests ask for many, need not go through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with models/, images/ and photos/ of third parties; they are not part of this project."""
    if not (SHARED / "models").is_dir():
        pytest.skip("third-party models and pictures are absent: set FASTSR_SHARED to a folder with models/ and images/")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Child processes import the fastsr under test, not the sources in the current folder, which may lack the built core."""
    package = str(Path(fastsr.__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for emulators of GPUs (`cuda_emulator.py`): what they compile there, they compile once a session."""
    from cpp_programs import shared_folder

    return shared_folder(tmp_path_factory, "cuda_kernels")


@pytest.fixture(scope="session")
def emulator(kernels: Path) -> Emulator:
    """What runs the kernels of the fake CuPy."""
    from cuda_emulator import Emulator

    return Emulator(kernels)


@pytest.fixture(autouse=True)
def _best_isa() -> Iterator[None]:
    """Every test starts with the best instruction set: undoes what `_core.set_isa` did."""
    yield
    if "fastsr._core" in sys.modules:
        sys.modules["fastsr._core"].set_isa("")


@pytest.fixture(autouse=True)
def _undisturbed_torch() -> Iterator[None]:
    """What a training sets for the whole process is set back."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    yield
    if torch:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode("default")
