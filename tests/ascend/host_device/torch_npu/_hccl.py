"""Process groups of the backend ``hccl``: through host memory, over gloo, with the refusals of the real one."""

import atexit
import weakref
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _create_work_from_future
from torch.futures import Future

# What the real library reduces. It moves everything: broadcast and gather take any of its types.
REDUCED = {
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
}
MOVED = REDUCED | {torch.uint8, torch.bool, torch.float64}
REFUSED_OPERATIONS = [dist.ReduceOp.BAND, dist.ReduceOp.BOR, dist.ReduceOp.BXOR]


_groups = weakref.WeakSet()


@atexit.register
def _end_groups():
    """Join gloo's threads while the interpreter still stands; when they outlive it, the process aborts."""
    for group in list(_groups):
        group.shutdown()


def _done(result):
    """A piece of work that has finished."""
    future = Future()
    future.set_result(result)
    return _create_work_from_future(future)


def _check(name, tensors, types):
    for tensor in tensors:
        if tensor.device.type != "npu" or tensor.layout != torch.strided:
            raise RuntimeError("Tensors must be NPU and dense")
        if tensor.dtype not in MOVED:
            raise RuntimeError("Unsupported data type for HCCL process group")
        if tensor.dtype not in types:
            raise RuntimeError(f"HCCL {name}: Unsupported data type {tensor.dtype}")


def _to_host(tensors):
    return [tensor.detach().cpu() for tensor in tensors]


def _to_device(tensors, host):
    with torch.no_grad():
        for tensor, source in zip(tensors, host, strict=True):
            tensor.copy_(source)


class ProcessGroupHCCL(dist.ProcessGroup):
    """One rank of a group."""

    def __init__(self, store, rank, size, timeout):
        super().__init__(rank, size)
        self._gloo = dist.ProcessGroupGloo(dist.PrefixStore("hccl", store), rank, size, timeout)
        self._name = ""
        _groups.add(self)

    # ---- what torch.distributed asks about a group ----

    def getBackendName(self):
        return "hccl"

    @property
    def _device_types(self):
        return [torch.device("npu")]

    def _get_backend(self, device):
        return SimpleNamespace(supports_splitting=False, supports_coalescing=False, supports_time_estimate=False)

    def _set_group_name(self, name):
        self._name = name

    def _set_group_desc(self, desc):
        pass

    @property
    def group_name(self):
        return self._name

    def shutdown(self):
        self._gloo = None

    # ---- reductions ----

    def _reduce_on_host(self, name, tensors, operation, collective):
        _check(name, tensors, REDUCED)
        if any(operation == refused for refused in REFUSED_OPERATIONS):
            raise RuntimeError(f"Cannot use ReduceOp.{operation} with HCCL")
        # A mean is a sum that is divided; gloo has none for whole numbers.
        average = operation == dist.ReduceOp.AVG
        host = _to_host(tensors)
        collective(host, dist.ReduceOp.SUM if average else operation).wait()
        if average:
            for tensor in host:
                if tensor.is_floating_point():
                    tensor.div_(self.size())
                else:
                    tensor.floor_divide_(self.size())
        return host

    def allreduce(self, tensors, opts=None):
        def collective(host, operation):
            options = dist.AllreduceOptions()
            options.reduceOp = operation
            return self._gloo.allreduce(host, options)

        operation = dist.ReduceOp.SUM if opts is None else opts.reduceOp
        _to_device(tensors, self._reduce_on_host("allreduce", tensors, operation, collective))
        return _done(tensors)

    def allreduce_coalesced(self, tensors, opts=None):
        for tensor in tensors:
            self.allreduce([tensor], opts)
        return _done(tensors)

    def reduce(self, tensors, opts):
        def collective(host, operation):
            options = dist.ReduceOptions()
            options.reduceOp = operation
            options.rootRank = opts.rootRank
            return self._gloo.reduce(host, options)

        host = self._reduce_on_host("reduce", tensors, opts.reduceOp, collective)
        if self.rank() == opts.rootRank:
            _to_device(tensors, host)
        return _done(tensors)

    def reduce_scatter(self, outputs, inputs, opts):
        for output, parts in zip(outputs, inputs, strict=True):
            whole = [part.clone() for part in parts]
            for part in whole:
                self.allreduce([part], opts)
            _to_device([output], [whole[self.rank()]])
        return _done(outputs)

    def _reduce_scatter_base(self, output, whole, opts):
        return self.reduce_scatter([output], [list(whole.chunk(self.size()))], opts)

    reduce_scatter_single = _reduce_scatter_base  # the name that newer callers use

    # ---- moves ----

    def broadcast(self, tensors, opts=None):
        _check("broadcast", tensors, MOVED)
        host = _to_host(tensors)
        self._gloo.broadcast(host, opts or dist.BroadcastOptions()).wait()
        _to_device(tensors, host)
        return _done(tensors)

    def allgather(self, outputs, inputs, opts=None):
        _check("allgather", [*inputs, *(tensor for row in outputs for tensor in row)], MOVED)
        host = [[torch.empty_like(tensor, device="cpu") for tensor in row] for row in outputs]
        self._gloo.allgather(host, _to_host(inputs), opts or dist.AllgatherOptions()).wait()
        for row, source in zip(outputs, host, strict=True):
            _to_device(row, source)
        return _done(outputs)

    def _allgather_base(self, output, tensor, opts=None):
        _check("allgather", [output, tensor], MOVED)
        host = torch.empty_like(output, device="cpu")
        self._gloo._allgather_base(host, tensor.cpu(), opts or dist.AllgatherOptions()).wait()
        _to_device([output], [host])
        return _done([output])

    all_gather_single = _allgather_base

    def allgather_into_tensor_coalesced(self, outputs, inputs, opts=None):
        for output, tensor in zip(outputs, inputs, strict=True):
            self._allgather_base(output, tensor, opts)
        return _done(outputs)

    all_gather_single_coalesced = allgather_into_tensor_coalesced

    def gather(self, outputs, inputs, opts):
        _check("gather", inputs, MOVED)
        host = [[torch.empty_like(tensor, device="cpu") for tensor in row] for row in outputs]
        self._gloo.gather(host, _to_host(inputs), opts).wait()
        for row, source in zip(outputs, host, strict=True):
            _to_device(row, source)
        return _done(outputs)

    def scatter(self, outputs, inputs, opts):
        _check("scatter", outputs, MOVED)
        host = _to_host(outputs)
        self._gloo.scatter(host, [_to_host(row) for row in inputs], opts).wait()
        _to_device(outputs, host)
        return _done(outputs)

    def send(self, tensors, dstRank, tag=0):
        _check("send", tensors, MOVED)
        self._gloo.send(_to_host(tensors), dstRank, tag).wait()
        return _done(tensors)

    def recv(self, tensors, srcRank, tag=0):
        _check("recv", tensors, MOVED)
        host = _to_host(tensors)
        self._gloo.recv(host, srcRank, tag).wait()
        _to_device(tensors, host)
        return _done(tensors)

    def barrier(self, opts=None):
        self._gloo.barrier().wait()
        return _done([])


def is_hccl_available():
    return True


def register() -> None:
    """Make ``backend="hccl"`` known."""
    dist.Backend.register_backend("hccl", ProcessGroupHCCL, devices=["npu"])
    dist.is_hccl_available = is_hccl_available
