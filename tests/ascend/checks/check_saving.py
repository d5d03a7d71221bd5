"""Tensors that leave the device: into files, into pinned memory, through a DataLoader."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@pytest.mark.parametrize(
    ("location", "found"), [(None, "npu:1"), ("cpu", "cpu"), ("npu:0", "npu:0"), (torch.device("npu:0"), "npu:0")]
)
def check_save_and_load(location, found):
    model = nn.Linear(3, 2).to("npu:1")
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, map_location=location, weights_only=True)
    assert {str(tensor.device) for tensor in state.values()} == {found}
    assert torch.equal(state["weight"].cpu(), model.weight.cpu())


def check_a_file_from_the_host():
    file = io.BytesIO()
    torch.save(torch.ones(2), file)
    file.seek(0)
    assert torch.load(file, map_location="npu").is_npu


def check_deepcopy():
    tensor = torch.ones(2, device="npu:1")
    twin = copy.deepcopy(tensor)
    twin.add_(1)
    assert (twin.device, tensor.tolist()) == (tensor.device, [1, 1])


@pytest.mark.parametrize("workers", [0, 1])
def check_pinned_memory(workers):
    data = TensorDataset(torch.arange(8.0))
    for (batch,) in DataLoader(data, batch_size=4, pin_memory=True, num_workers=workers):
        assert batch.is_pinned()
        assert batch.to("npu", non_blocking=True).tolist() == batch.tolist()
    assert not torch.ones(4).is_pinned()
