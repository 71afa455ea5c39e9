"""What every Python test shares: seeds, threads, and skipping where PyTorch is missing."""

import importlib.util

import numpy as np
import pytest

import fluxion

HAVE_TORCH = importlib.util.find_spec("torch") is not None


def pytest_collection_modifyitems(items):
    if HAVE_TORCH:
        return
    skip = pytest.mark.skip(reason="needs PyTorch: make test-torch")
    for item in items:
        if "torch" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def same_start():
    """Every test starts from one seed, with gradients on, the default dtype and thread count."""
    fluxion.manual_seed(0)
    threads = fluxion.get_num_threads()
    yield
    fluxion.set_num_threads(threads)
    fluxion.set_grad_enabled(True)
    fluxion.set_default_dtype(fluxion.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request):
    fluxion.set_num_threads(request.param)
    return request.param


@pytest.fixture
def torch():
    """The oracle where it is installed."""
    return pytest.importorskip("torch")
