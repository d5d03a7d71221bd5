"""Current device and stream, waiting, and the checks for overflow."""

import os
import warnings

import torch

from torch_npu import _host
from torch_npu._errors import NOT_SUPPORT, TYPE, pta_error
from torch_npu.npu._state import _lazy_init, device_index
from torch_npu.npu.streams import Stream


def synchronize(device=None):
    torch.accelerator.synchronize(device_index(device))


def set_device(device):
    index = device_index(device)
    if index >= 0:
        torch.ops.npu_host.claim(index)
        torch.ops.npu_host.exchange_device(index)


def current_device():
    _lazy_init()
    return torch.ops.npu_host.current_device()


class device:
    """Makes another device the current one for a while. A negative index changes nothing."""

    def __init__(self, device):
        self.idx = device_index(device)
        self.prev_idx = -1

    def __enter__(self):
        self.prev_idx = torch.ops.npu_host.exchange_device(self.idx)

    def __exit__(self, *args):
        torch.ops.npu_host.exchange_device(self.prev_idx)
        return False


class device_of(device):
    """Makes the device of a tensor the current one for a while."""

    def __init__(self, obj):
        super().__init__(obj.get_device() if obj.is_npu else -1)


def _as_stream(stream):
    return Stream(stream_id=stream.stream_id, device_index=stream.device_index, device_type=stream.device_type)


def current_stream(device=None):
    _lazy_init()
    return _as_stream(torch.accelerator.current_stream(device_index(device)))


def default_stream(device=None):
    _lazy_init()
    current = torch.accelerator.current_stream(device_index(device))
    return Stream(stream_id=0, device_index=current.device_index, device_type=current.device_type)


def set_stream(stream):
    if stream is not None:
        torch.accelerator.set_stream(stream)


class StreamContext:
    """Makes a stream the current one for a while. Without a stream it changes nothing."""

    def __init__(self, stream_ctx):
        self.stream = stream_ctx
        self.before = None

    def __enter__(self):
        if self.stream is not None:
            self.device = torch.ops.npu_host.current_device()
            self.before = current_stream(self.stream.device)
            set_stream(self.stream)

    def __exit__(self, exec_type, exec_value, traceback):
        if self.before is not None:
            set_stream(self.before)
            torch.ops.npu_host.exchange_device(self.device)


def stream(stream):
    return StreamContext(stream)


def is_support_inf_nan():
    _lazy_init()
    return os.environ.get("NPU_HOST_NO_INF_NAN", "0") != "1"


def is_bf16_supported(including_emulation: bool = False):
    _lazy_init()
    return True


def get_npu_overflow_flag():
    if is_support_inf_nan():
        raise RuntimeError(
            "Unsupported api when soc_version >= Ascend910B1, please use npu_check_overflow" + pta_error(*NOT_SUPPORT)
        )
    return bool(_host.overflow)


def npu_check_overflow(grad):
    if not is_support_inf_nan():
        found = get_npu_overflow_flag()
        if found:
            clear_npu_overflow_flag()
        return found
    if isinstance(grad, torch.Tensor):
        total = grad.float().sum()
    elif isinstance(grad, float):
        total = torch.tensor(grad)
    else:
        raise RuntimeError("Unsupported type." + pta_error(*TYPE))
    return not bool(torch.isfinite(total).item())


def clear_npu_overflow_flag():
    if is_support_inf_nan():
        warnings.warn(
            "When soc_version >= Ascend910B1, clear_npu_overflow_flag is useless. Please remove it.", stacklevel=2
        )
        return
    _host.overflow = False
