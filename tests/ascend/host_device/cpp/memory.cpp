// The device's memory: host memory, counted per device and limited. And pinned host memory, which is host memory
// that is remembered as pinned.
#include "host_device.h"

#include <ATen/core/CachingHostAllocator.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <sstream>
#include <unordered_set>

namespace npu_host {
namespace {

using c10::DataPtr;
using c10::DeviceIndex;

constexpr size_t kAlignment = 64;

void* host_memory(size_t bytes) {
  void* memory = nullptr;
  TORCH_CHECK(posix_memalign(&memory, kAlignment, bytes) == 0, "npu: the host has no ", bytes, " bytes left");
  return memory;
}

struct Count {
  int64_t now = 0;
  int64_t peak = 0;
  int64_t ever_allocated = 0;
  int64_t ever_freed = 0;
};

// Never destroyed: tensors in static objects are freed after this file's own statics would be gone.
std::mutex& mutex() {
  static auto* value = new std::mutex;
  return *value;
}
std::array<Count, kMostDevices>& counts() {
  static auto* value = new std::array<Count, kMostDevices>;
  return *value;
}

void count_up(size_t bytes, DeviceIndex index) {
  const std::lock_guard<std::mutex> lock(mutex());
  Count& count = counts()[index];
  const size_t capacity = knobs().capacity;
  if (size_t(count.now) + bytes > capacity || bytes > capacity) {
    std::ostringstream text;
    text << "NPU out of memory. Tried to allocate " << bytes << " bytes (NPU " << int(index) << "; " << capacity
         << " bytes total capacity; " << count.now << " bytes already allocated)";
    TORCH_CHECK_WITH(OutOfMemoryError, false, text.str());
  }
  count.now += int64_t(bytes);
  count.ever_allocated += int64_t(bytes);
  count.peak = std::max(count.peak, count.now);
}

// One piece of device memory: either its own, or a host tensor's storage that a kernel left behind.
struct Block {
  size_t bytes;
  DeviceIndex index;
  void* own;
  c10::Storage host;

  static void release(void* context) {
    auto* block = static_cast<Block*>(context);
    {
      const std::lock_guard<std::mutex> lock(mutex());
      Count& count = counts()[block->index];
      count.now -= int64_t(block->bytes);
      count.ever_freed += int64_t(block->bytes);
    }
    std::free(block->own);
    delete block;
  }
};

DataPtr no_memory(DeviceIndex index) {
  return {nullptr, nullptr, &c10::detail::deleteNothing, c10::Device(kNpu, index)};
}

struct HostMemoryAllocator final : c10::DeviceAllocator {
  DataPtr allocate(size_t bytes) override {
    const DeviceIndex index = current_device();
    claim(index);
    if (bytes == 0) return no_memory(index);
    count_up(bytes, index);
    void* memory = host_memory(bytes);
    return {memory, new Block{bytes, index, memory, {}}, &Block::release, c10::Device(kNpu, index)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const DataPtr&, c10::Stream) override {}

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(DeviceIndex index) override {
    c10::CachingDeviceAllocator::DeviceStats result;
    const std::lock_guard<std::mutex> lock(mutex());
    const Count& count = counts().at(index);
    auto &allocated = result.allocated_bytes, &requested = result.requested_bytes;
    auto &reserved = result.reserved_bytes, &active = result.active_bytes;
    for (auto* kind : {&allocated, &requested, &reserved, &active}) {
      auto& all = (*kind)[0];
      all.current = count.now;
      all.peak = count.peak;
      all.allocated = count.ever_allocated;
      all.freed = count.ever_freed;
    }
    return result;
  }
  void resetAccumulatedStats(DeviceIndex index) override {
    const std::lock_guard<std::mutex> lock(mutex());
    counts().at(index).ever_allocated = counts().at(index).ever_freed = 0;
  }
  void resetPeakStats(DeviceIndex index) override {
    const std::lock_guard<std::mutex> lock(mutex());
    counts().at(index).peak = counts().at(index).now;
  }
  std::pair<size_t, size_t> getMemoryInfo(DeviceIndex index) override {
    const std::lock_guard<std::mutex> lock(mutex());
    const auto used = size_t(counts().at(index).now);
    const size_t capacity = knobs().capacity;
    return {used < capacity ? capacity - used : 0, capacity};
  }
};

HostMemoryAllocator g_allocator;
REGISTER_ALLOCATOR(kNpu, &g_allocator);

std::unordered_set<const void*>& pinned() {
  static auto* value = new std::unordered_set<const void*>;
  return *value;
}

struct PinnedAllocator final : at::HostAllocator {
  static void release(void* memory) {
    {
      const std::lock_guard<std::mutex> lock(mutex());
      pinned().erase(memory);
    }
    std::free(memory);
  }
  DataPtr allocate(size_t bytes) override {
    void* memory = host_memory(std::max<size_t>(bytes, 1));
    const std::lock_guard<std::mutex> lock(mutex());
    pinned().insert(memory);
    return {memory, memory, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
  bool record_event(void*, void*, c10::Stream) override { return true; }
  void empty_cache() override {}
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
};

PinnedAllocator g_pinned_allocator;
REGISTER_HOST_ALLOCATOR(kNpu, &g_pinned_allocator);

}  // namespace

c10::DeviceAllocator& allocator() { return g_allocator; }
c10::Allocator& pinned_allocator() { return g_pinned_allocator; }

bool is_pinned(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex());
  return pinned().count(data) != 0;
}

DataPtr adopt(c10::Storage host, DeviceIndex index) {
  const size_t bytes = host.nbytes();
  void* memory = host.mutable_data();
  if (memory == nullptr || bytes == 0) return no_memory(index);
  count_up(bytes, index);
  return {memory, new Block{bytes, index, nullptr, std::move(host)}, &Block::release, c10::Device(kNpu, index)};
}

}  // namespace npu_host
