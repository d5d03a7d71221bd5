// Random numbers of the device. Each generator wraps one of the host's: kernels draw from that, callers see npu.
#include "host_device.h"

#include <ATen/CPUGeneratorImpl.h>

namespace npu_host {
namespace {

struct NpuGenerator final : c10::GeneratorImpl {
  NpuGenerator(c10::DeviceIndex index, at::Generator drawn_from)
      : c10::GeneratorImpl(c10::Device(kNpu, index), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        host(std::move(drawn_from)) {}

  void set_current_seed(uint64_t value) override { host.set_current_seed(value); }
  uint64_t current_seed() const override { return host.current_seed(); }
  uint64_t seed() override { return host.seed(); }
  void set_offset(uint64_t) override { TORCH_CHECK(false, "npu: this generator has no offset"); }
  uint64_t get_offset() const override { TORCH_CHECK(false, "npu: this generator has no offset"); }
  void set_state(const c10::TensorImpl& state) override { host.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return host.unsafeGetGeneratorImpl()->get_state();
  }
  NpuGenerator* clone_impl() const override { return new NpuGenerator(device().index(), host.clone()); }
  static c10::DeviceType device_type() { return kNpu; }

  at::Generator host;
};

}  // namespace

at::Generator new_generator(c10::DeviceIndex index) {
  return at::make_generator<NpuGenerator>(index < 0 ? current_device() : index, at::detail::createCPUGenerator());
}

at::Generator& default_generator(c10::DeviceIndex index) {
  // Never destroyed, for the reason given in memory.cpp.
  static auto* all = [] {
    auto* result = new std::vector<at::Generator>;
    for (c10::DeviceIndex i = 0; i < kMostDevices; ++i) result->push_back(new_generator(i));
    return result;
  }();
  const c10::DeviceIndex chosen = index < 0 ? current_device() : index;
  TORCH_CHECK(chosen < knobs().devices, "npu: no device ", int(chosen), " to draw random numbers on");
  return all->at(chosen);
}

at::Generator host_generator(const at::Generator& generator) {
  TORCH_CHECK(
      generator.device().type() == kNpu, "Expected a 'npu' device type for generator but found '",
      generator.device().type(), "'");
  return static_cast<NpuGenerator*>(generator.unsafeGetGeneratorImpl())->host;
}

namespace {

void swap_states(c10::DeviceIndex index) {
  at::Generator ours = host_generator(default_generator(index));
  at::Generator theirs = at::detail::getDefaultCPUGenerator();
  const auto kept = theirs.get_state();
  theirs.set_state(ours.get_state());
  ours.set_state(kept);
}

}  // namespace

DrawsFromTheDevice::DrawsFromTheDevice(c10::DeviceIndex index) : index_(index) {
  swap_states(index_);
}

DrawsFromTheDevice::~DrawsFromTheDevice() {
  swap_states(index_);
}

}  // namespace npu_host
