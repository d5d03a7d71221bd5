"""Random numbers: one default generator for each device. Seeding without a device is silently ignored."""

from typing import Union

import torch

from torch_npu.npu._state import _lazy_init, device_count, device_index


def _generator(index: int) -> torch.Generator:
    return torch.ops.npu_host.default_generator(index)


# Annotated as in the real package, whose signatures these are.
def get_rng_state(device: Union[int, str, torch.device] = "npu") -> torch.Tensor:  # noqa: UP007
    _lazy_init()
    return _generator(device_index(device)).get_state()


def set_rng_state(new_state: torch.Tensor, device: Union[int, str, torch.device] = "npu") -> None:  # noqa: UP007
    _generator(device_index(device)).set_state(new_state)


def get_rng_state_all():
    return [get_rng_state(index) for index in range(device_count())]


def set_rng_state_all(new_states):
    for index, state in enumerate(new_states):
        set_rng_state(state, index)


def manual_seed(seed):
    if device_count():
        _generator(device_index()).manual_seed(int(seed))


def manual_seed_all(seed):
    for index in range(device_count()):
        _generator(index).manual_seed(int(seed))


def seed():
    if device_count():
        _generator(device_index()).seed()


def seed_all():
    drawn = _generator(0).seed() if device_count() else 0
    manual_seed_all(drawn)


def initial_seed():
    _lazy_init()
    return _generator(device_index()).initial_seed()
