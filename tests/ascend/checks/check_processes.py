"""Two processes with the backend hccl."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist


def check_the_backend_is_known():
    assert dist.is_hccl_available()
    assert dist.Backend.HCCL == "hccl"
    assert dist.Backend.default_device_backend_map["npu"] == "hccl"


def check_two_processes(tmp_path):
    script = Path(__file__).with_name("two_ranks.py")
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), f"file://{tmp_path / 'store'}"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
    weights = [output.splitlines()[-1] for output in outputs]
    assert weights[0] == weights[1]

    # The same two steps on the host, over the whole batch at once.
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.arange(8)).pow(2).mean().backward()
        optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    got = torch.tensor([float(value) for value in weights[0].split()])
    assert torch.allclose(expected, got, atol=1e-6)
