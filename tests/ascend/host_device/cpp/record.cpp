// A log of the operators that arrive at this back end, with the types of their tensors: what a real one must have.
#include "host_device.h"

#include <c10/core/ScalarType.h>

#include <atomic>
#include <mutex>
#include <set>

namespace npu_host {
namespace {

std::atomic<bool> g_on{false};
std::mutex g_mutex;
std::set<std::string>& seen() {
  static auto* value = new std::set<std::string>;
  return *value;
}

}  // namespace

bool recording() { return g_on.load(std::memory_order_relaxed); }

void record(bool on) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (on) seen().clear();
  g_on.store(on);
}

void note(const std::string& name, const std::vector<at::Tensor>& arguments) {
  if (!recording()) return;
  std::string line = name + "|";
  bool first = true;
  for (const auto& tensor : arguments) {
    if (!tensor.defined()) continue;
    if (!first) line += ",";
    first = false;
    line += c10::getDtypeNames(tensor.scalar_type()).first;
  }
  const std::lock_guard<std::mutex> lock(g_mutex);
  seen().insert(line);
}

std::vector<std::string> recorded() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return {seen().begin(), seen().end()};
}

}  // namespace npu_host
