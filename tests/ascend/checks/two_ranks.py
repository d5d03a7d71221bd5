"""One of two ranks: ``two_ranks.py RANK STORE``. Run by check_processes.py; its last line is the trained weights."""

import sys

import pytest
import torch
import torch.distributed as dist
import torch_npu


def refused(call, text: str) -> None:
    """``call`` must raise an error that says ``text``. Both ranks raise, before anything is sent."""
    with pytest.raises(RuntimeError, match=text):
        call()


def reductions(rank: int) -> None:
    """Values and refusals of every reduction."""
    operations = {dist.ReduceOp.SUM: 3, dist.ReduceOp.AVG: 1.5, dist.ReduceOp.MAX: 2, dist.ReduceOp.MIN: 1}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for operation, expected in operations.items():
            tensor = torch.full((2,), rank + 1, dtype=dtype, device="npu")
            dist.all_reduce(tensor, op=operation)
            assert tensor.tolist() == [expected, expected], (dtype, operation, tensor)
    for dtype in (torch.int8, torch.int32, torch.int64):
        tensor = torch.full((2,), rank + 1, dtype=dtype, device="npu")
        dist.all_reduce(tensor)
        assert tensor.tolist() == [3, 3]
    tensor = torch.full((1,), rank + 1.0, device="npu")
    dist.reduce(tensor, dst=1)
    assert tensor.item() == (3 if rank else 1)
    part = torch.empty(1, device="npu")
    dist.reduce_scatter_tensor(part, torch.arange(2.0, device="npu"))
    assert part.item() == 2 * rank
    for dtype in (torch.float64, torch.bool, torch.uint8):
        wrong = torch.ones(1, device="npu").to(dtype)
        refused(lambda wrong=wrong: dist.all_reduce(wrong), "HCCL allreduce: Unsupported data type")
    refused(lambda: dist.all_reduce(torch.ones(1)), "Tensors must be NPU and dense")
    refused(lambda: dist.all_reduce(torch.ones(1, device="npu", dtype=torch.int32), op=dist.ReduceOp.BOR), "HCCL")


def moves(rank: int) -> None:
    """Broadcast and gather, of tensors and of objects."""
    for dtype in (torch.float64, torch.uint8, torch.bool):
        tensor = torch.full((2,), rank, device="npu").to(dtype)
        dist.broadcast(tensor, src=1)
        assert tensor.tolist() == [1, 1]
    tensors = [torch.empty(1, device="npu") for _ in range(2)]
    dist.all_gather(tensors, torch.full((1,), float(rank), device="npu"))
    assert [tensor.item() for tensor in tensors] == [0, 1]
    whole = torch.empty(2, device="npu")
    dist.all_gather_into_tensor(whole, torch.full((1,), float(rank), device="npu"))
    assert whole.tolist() == [0, 1]
    if rank == 0:
        dist.send(torch.full((1,), 5.0, device="npu"), dst=1)
    else:
        received = torch.zeros(1, device="npu")
        dist.recv(received, src=0)
        assert received.item() == 5
    objects = [{"from": rank}, "x" * rank]
    dist.broadcast_object_list(objects, src=0)
    assert objects == [{"from": 0}, ""]
    gathered = [None, None]
    dist.all_gather_object(gathered, {"rank": rank})
    assert gathered == [{"rank": 0}, {"rank": 1}]
    dist.barrier()
    dist.barrier(device_ids=[rank])


def train(rank: int) -> str:
    """Two steps of data parallel training; the weights as text."""
    torch.manual_seed(rank)  # the first rank's weights are the ones that count
    model = torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Linear(4, 1)).npu()
    parallel = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank])
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        parallel(torch.arange(8, device="npu")[rank::2]).pow(2).mean().backward()
        optimizer.step()
    return " ".join(repr(value) for p in model.parameters() for value in p.detach().flatten().tolist())


def main() -> None:
    """Everything, in an order that both ranks share."""
    rank = int(sys.argv[1])
    torch_npu.npu.set_device(rank)
    dist.init_process_group(
        "hccl", init_method=sys.argv[2], rank=rank, world_size=2, device_id=torch.device("npu", rank)
    )
    assert dist.get_backend() == "hccl"
    reductions(rank)
    moves(rank)
    weights = train(rank)
    dist.destroy_process_group()
    sys.stdout.write(weights + "\n")


main()
