"""Generators of the device: seeded with torch's seed, kept apart from the host's."""

import pytest
import torch


def draw(count=4, **options):
    return torch.rand(count, device="npu", **options).tolist()


def check_the_seed_reaches_every_device():
    torch.manual_seed(3)
    first, elsewhere, host = draw(), torch.rand(4, device="npu:1").tolist(), torch.rand(4).tolist()
    torch.manual_seed(3)
    torch.rand(10)  # the host's numbers are drawn elsewhere
    assert draw() == first
    assert torch.rand(4, device="npu:1").tolist() == elsewhere
    torch.manual_seed(3)
    assert torch.rand(4).tolist() == host
    assert torch.npu.initial_seed() == 3


def check_states_are_saved_and_restored():
    state, all_states = torch.npu.get_rng_state(), torch.npu.get_rng_state_all()
    assert len(all_states) == 2
    assert state.device.type == "cpu"
    first = draw()
    torch.npu.set_rng_state(state)
    assert draw() == first
    torch.npu.set_rng_state_all(all_states)
    assert draw() == first
    assert draw() != first
    torch.npu.set_rng_state(state, "npu:1")
    assert torch.rand(4, device="npu:1").tolist() == first


def check_fork_rng():
    with torch.random.fork_rng(devices=[0], device_type="npu"):
        first = draw()
    assert draw() == first


def check_own_generators():
    generator = torch.Generator(device="npu").manual_seed(7)
    assert generator.device == torch.device("npu:0")
    first = draw(generator=generator)
    assert draw(generator=generator) != first
    assert draw(generator=generator.manual_seed(7)) == first
    torch.npu.manual_seed(7)
    assert draw() == first
    assert torch.npu.default_generators[0].initial_seed() == 7
    with pytest.raises(RuntimeError, match="Expected a 'npu' device type for generator but found 'cpu'"):
        draw(generator=torch.Generator())
    with pytest.raises(RuntimeError, match="Expected a"):
        torch.rand(4, generator=generator)


def check_dropout_and_permutations_follow_the_seed():
    def values():
        torch.manual_seed(5)
        dropped = torch.nn.functional.dropout(torch.ones(50, device="npu"), 0.5)
        return dropped.tolist(), torch.randperm(20, device="npu").tolist(), draw()

    assert values() == values()


def check_dropout_draws_from_the_device_and_leaves_the_host_alone():
    torch.manual_seed(5)
    host, device = torch.get_rng_state(), torch.npu.get_rng_state()
    first = torch.nn.functional.dropout(torch.ones(50, device="npu"), 0.5).tolist()
    assert torch.equal(torch.get_rng_state(), host)
    assert not torch.equal(torch.npu.get_rng_state(), device)
    torch.npu.set_rng_state(device)
    assert torch.nn.functional.dropout(torch.ones(50, device="npu"), 0.5).tolist() == first
