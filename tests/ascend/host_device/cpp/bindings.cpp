// What Python may ask: torch.ops.npu_host.
#include "host_device.h"

#include <torch/library.h>

using c10::DeviceIndex;

TORCH_LIBRARY(npu_host, m) {
  m.def("take_over_host_kernels() -> ()", [] { npu_host::take_over_host_kernels(); });
  m.def("read_knobs() -> ()", [] { npu_host::read_knobs(); });
  m.def("device_count() -> int", [] { return int64_t(npu_host::knobs().devices); });
  m.def("current_device() -> int", [] { return int64_t(npu_host::current_device()); });
  m.def("claim(int index) -> ()", [](int64_t index) { npu_host::claim(DeviceIndex(index)); });
  m.def("exchange_device(int index) -> int", [](int64_t index) {
    return int64_t(npu_host::exchange_device(DeviceIndex(index)));
  });
  m.def("initialized() -> bool", [] { return npu_host::initialized(); });
  m.def("in_bad_fork() -> bool", [] { return npu_host::in_bad_fork(); });
  m.def("synchronizations() -> int", [] { return npu_host::synchronizations(); });
  m.def("default_generator(int index) -> Generator?", [](int64_t index) {
    return npu_host::default_generator(DeviceIndex(index));
  });
  m.def("record(bool on) -> ()", [](bool on) { npu_host::record(on); });
  m.def("recorded() -> str[]", [] { return npu_host::recorded(); });
}
