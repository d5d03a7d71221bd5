// A PyTorch device "npu" (dispatch key PrivateUse1) whose memory is host memory and whose kernels are the CPU's.
//
// It keeps apart what a real device keeps apart - its allocations, its current device, its streams, its generators -
// and refuses what a real device refuses, so that a test sees a forgotten .to(device) or a host generator. What it
// computes is what the CPU computes. Its speed says nothing about any hardware.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Device.h>
#include <c10/core/DeviceGuard.h>

#include <string>
#include <vector>

namespace npu_host {

constexpr c10::DeviceType kNpu = c10::DeviceType::PrivateUse1;
constexpr int kMostDevices = 64;

// ---- device.cpp: which devices there are, which one is current -----------------------------------------------------

// What the environment asks for. Read when the library is loaded, and again by read_knobs().
struct Knobs {
  c10::DeviceIndex devices = 2;
  size_t capacity = 0;   // bytes of each device
  uint64_t busy = 0;     // bit i: device i is taken by somebody else
  uint64_t broken = 0;   // bit i: device i is found, but computes nothing
  uint64_t wrong = 0;    // bit i: device i adds wrongly
};
const Knobs& knobs();
void read_knobs();

c10::DeviceIndex current_device();
c10::DeviceIndex exchange_device(c10::DeviceIndex index);  // returns the one before; a negative index changes nothing
c10::Device with_index(std::optional<c10::Device> device); // fills the current index in

void claim(c10::DeviceIndex index);           // before a device is used: it must exist, be free, and not be forked
void before_compute(c10::DeviceIndex index);  // the same, and it must compute
bool adds_wrongly(c10::DeviceIndex index);
bool initialized();
bool in_bad_fork();
int64_t synchronizations();

// ---- memory.cpp ----------------------------------------------------------------------------------------------------

c10::DeviceAllocator& allocator();
c10::Allocator& pinned_allocator();
bool is_pinned(const void* data);
// Memory that a host kernel has allocated becomes the device's, without a copy.
c10::DataPtr adopt(c10::Storage host, c10::DeviceIndex index);

// ---- views.cpp: one memory, seen as a device tensor or as a host tensor --------------------------------------------

inline bool on_npu(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kNpu;
}
at::Tensor host_view(const at::Tensor& device_tensor);
at::Tensor device_view(const at::Tensor& host_tensor, c10::DeviceIndex index);
// A sparse tensor changed in place has new indices and values: `device_tensor` takes them over from `host_tensor`.
void write_back_sparse(const at::Tensor& device_tensor, const at::Tensor& host_tensor);

// ---- fallback.cpp: operators run by the host's kernels -------------------------------------------------------------

// Registers by name whatever the host has a kernel of its own for. PyTorch would prefer a composite kernel to a
// fallback: then other operators would arrive here than the one that was called, and layer normalisation, for one,
// would differ from the host's in the last bit. To be called once, when all of this library is loaded.
void take_over_host_kernels();

// ---- generator.cpp -------------------------------------------------------------------------------------------------

at::Generator new_generator(c10::DeviceIndex index);
at::Generator& default_generator(c10::DeviceIndex index);
at::Generator host_generator(const at::Generator& generator);  // the one that host kernels draw from

// While it lives, the host's default generator has the state of the device's: for kernels that draw numbers but take
// no generator, such as native_dropout. They would otherwise move the host's random state instead of the device's.
class DrawsFromTheDevice {
 public:
  explicit DrawsFromTheDevice(c10::DeviceIndex index);
  ~DrawsFromTheDevice();
  DrawsFromTheDevice(const DrawsFromTheDevice&) = delete;
  DrawsFromTheDevice& operator=(const DrawsFromTheDevice&) = delete;

 private:
  c10::DeviceIndex index_;
};

// ---- record.cpp: which operators arrive here -----------------------------------------------------------------------

bool recording();
void record(bool on);  // on: forgets what was recorded before
void note(const std::string& name, const std::vector<at::Tensor>& arguments);
std::vector<std::string> recorded();

}  // namespace npu_host
