// Devices that exist, the current one, streams and events.
#include "host_device.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>

namespace npu_host {
namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::Stream;

int64_t number(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::atoll(text) : otherwise;
}

// "0,3" is the set of bits 0 and 3.
uint64_t index_set(const char* name) {
  uint64_t bits = 0;
  const char* text = std::getenv(name);
  while (text != nullptr && *text != '\0') {
    char* end = nullptr;
    const long index = std::strtol(text, &end, 10);
    if (end != text && index >= 0 && index < kMostDevices) bits |= uint64_t(1) << index;
    text = end == text || *end == ',' ? end + 1 : end;
  }
  return bits;
}

Knobs from_environment() {
  Knobs result;
  result.devices = DeviceIndex(std::clamp<int64_t>(number("NPU_HOST_DEVICES", 2), 0, kMostDevices));
  result.capacity = size_t(number("NPU_HOST_MEMORY_MB", 65536)) << 20;
  result.busy = index_set("NPU_HOST_BUSY");
  result.broken = index_set("NPU_HOST_BROKEN");
  result.wrong = index_set("NPU_HOST_WRONG");
  return result;
}

Knobs& state() {
  static Knobs value = from_environment();
  return value;
}

thread_local DeviceIndex t_device = 0;
thread_local std::array<c10::StreamId, kMostDevices> t_stream{};  // 0 is the default stream
std::atomic<c10::StreamId> g_next_stream{1};
std::atomic<int64_t> g_synchronizations{0};
std::atomic<bool> g_initialized{false};
std::atomic<bool> g_forked{false};

// A device context does not survive fork(). A child of a process that had one must not use the device.
[[maybe_unused]] const int g_at_fork = pthread_atfork(nullptr, nullptr, [] {
  if (g_initialized.load()) g_forked.store(true);
});

bool has(uint64_t bits, DeviceIndex index) {
  return (bits >> index) & 1;
}

// The texts below are worded like those of the Ascend runtime, which callers recognise by error code and by name.
std::string acl_error(const char* call, int code, DeviceIndex index) {
  return std::string("NPU function error: ") + call + ", error code is " + std::to_string(code) +
      "\n[ERROR] (PID:" + std::to_string(getpid()) + ", Device:" + std::to_string(int(index)) +
      ", RankID:-1) ERR00100 PTA call acl api failed\n[Error]: ";
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kNpu; }
  Device exchangeDevice(Device device) const override { return Device(kNpu, exchange_device(device.index())); }
  Device getDevice() const override { return Device(kNpu, t_device); }
  void setDevice(Device device) const override { exchange_device(device.index()); }
  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.index() >= 0) t_device = device.index();
  }
  DeviceIndex deviceCount() const noexcept override { return knobs().devices; }

  // Streams have names of their own and one current one per thread and device. All of them run at once.
  Stream getStream(Device device) const override {
    const Device known = with_index(device);
    return Stream(Stream::UNSAFE, known, t_stream[known.index()]);
  }
  Stream getDefaultStream(Device device) const override { return Stream(Stream::DEFAULT, with_index(device)); }
  Stream getStreamFromGlobalPool(Device device, bool) const override { return getNewStream(device, 0); }
  Stream getNewStream(Device device, int) const override {
    return Stream(Stream::UNSAFE, with_index(device), g_next_stream.fetch_add(1));
  }
  Stream exchangeStream(Stream stream) const override {
    const Stream before = getStream(stream.device());
    t_stream[before.device_index()] = stream.id();
    return before;
  }
  void* getStreamNativeHandle(const Stream stream) const override { return reinterpret_cast<void*>(stream.id()); }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override { g_synchronizations.fetch_add(1); }
  void synchronizeDevice(DeviceIndex index) const override {
    claim(index);
    g_synchronizations.fetch_add(1);
  }
  void recordDataPtrOnStream(const c10::DataPtr&, const Stream&) const override {}

  // A call has finished when it returns, so an event is nothing but a time stamp.
  void record(void** event, const Stream&, DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = new int64_t;
    *static_cast<int64_t*>(*event) = std::chrono::nanoseconds(
        std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  void destroyEvent(void* event, DeviceIndex) const noexcept override { delete static_cast<int64_t*>(event); }
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override { g_synchronizations.fetch_add(1); }
  double elapsedTime(void* first, void* second, DeviceIndex) const override {
    return double(*static_cast<int64_t*>(second) - *static_cast<int64_t*>(first)) / 1e6;
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

}  // namespace

const Knobs& knobs() { return state(); }
void read_knobs() { state() = from_environment(); }
DeviceIndex current_device() { return t_device; }
bool initialized() { return g_initialized.load() && !g_forked.load(); }
bool in_bad_fork() { return g_forked.load(); }
int64_t synchronizations() { return g_synchronizations.load(); }
bool adds_wrongly(DeviceIndex index) { return has(knobs().wrong, index); }

DeviceIndex exchange_device(DeviceIndex index) {
  const DeviceIndex before = t_device;
  if (index >= 0 && index != before) {
    claim(index);
    t_device = index;
  }
  return before;
}

Device with_index(std::optional<Device> device) {
  return Device(kNpu, device && device->has_index() ? device->index() : t_device);
}

void claim(DeviceIndex index) {
  TORCH_CHECK(
      !g_forked.load(),
      "Cannot re-initialize NPU in forked subprocess. To use NPU with multiprocessing, you must use the 'spawn' "
      "start method");
  TORCH_CHECK(
      index >= 0 && index < knobs().devices, acl_error("c10_npu::SetDevice(device)", 107001, index),
      "Invalid device ID.\n        Check whether the device ID is valid.");
  TORCH_CHECK(
      !has(knobs().busy, index), acl_error("c10_npu::SetDevice(device_id_)", 507033, index),
      "Failed to start the device.\n        Rectify the fault based on the error information in the ascend log.\n"
      "EL0005: The resources are busy.\n"
      "        Possible Cause: 1. The resources have been occupied. 2. The device is being reset. "
      "3. Software is not ready.\n"
      "        Solution: 1. Close applications not in use. 2. Wait for a while and try again.");
  g_initialized.store(true);
}

void before_compute(DeviceIndex index) {
  claim(index);
  TORCH_CHECK(
      !has(knobs().broken, index), acl_error("aclrtSynchronizeStream", 507015, index),
      "The aicore execution is abnormal.\n"
      "        Rectify the fault based on the error information in the ascend log.\nEZ9999: Inner Error!");
}

}  // namespace npu_host
