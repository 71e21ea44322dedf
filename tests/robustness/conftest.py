import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Tiny problems spend their time waking threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fresh_seed():
    """Every run draws its own problems; a test that fails shows with which seed."""
    print(f"torch.manual_seed({torch.seed()})")
