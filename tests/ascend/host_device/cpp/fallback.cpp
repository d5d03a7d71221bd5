// Every operator without an entry of its own: check the arguments as a device does, run the host's kernel on host
// views of them, hand the results back as device tensors. Nothing is copied, except into an `out=` argument.
#include "host_device.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/resize_native.h>
#include <torch/library.h>

#include <unordered_set>

namespace npu_host {
namespace {

using at::IValue;
using c10::DeviceIndex;
using c10::DispatchKey;

// Operators that a real device runs with operands on the host: index tensors and copies between the two.
bool may_mix(const std::string& name) {
  static const std::unordered_set<std::string> names = {
      "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_",
      "aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::_copy_from_and_resize",
  };
  return names.count(name) != 0;
}

bool takes_generator(const c10::FunctionSchema& schema) {
  const auto& arguments = schema.arguments();
  return std::any_of(arguments.begin(), arguments.end(), [](const auto& one) { return one.name() == "generator"; });
}

std::vector<at::Tensor> tensors_of(const std::vector<IValue>& arguments) {
  std::vector<at::Tensor> result;
  for (const auto& value : arguments) {
    if (value.isTensor()) {
      result.push_back(value.toTensor());
    } else if (value.isTensorList()) {
      for (at::Tensor tensor : value.toTensorVector()) result.push_back(std::move(tensor));
    } else if (value.isOptionalTensorList()) {
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        if (tensor) result.push_back(*tensor);
      }
    }
  }
  return result;
}

// The device that the operands are on. All of them, or it raises; only tensors without dimensions may be elsewhere.
DeviceIndex common_device(
    const std::string& name, const std::vector<IValue>& arguments, const std::vector<at::Tensor>& tensors) {
  DeviceIndex index = -1;
  bool with_host = false;
  for (const auto& tensor : tensors) {
    if (!tensor.defined()) continue;
    if (!on_npu(tensor)) {
      with_host |= tensor.dim() > 0;
    } else if (index < 0) {
      index = tensor.device().index();
    } else {
      TORCH_CHECK(
          index == tensor.device().index() || tensor.dim() == 0,
          "Expected all tensors to be on the same device, but found at least two devices, npu:", int(index), " and ",
          tensor.device(), "! (when running ", name, ")");
    }
  }
  for (const auto& value : arguments) {
    if (index < 0 && value.isDevice() && value.toDevice().type() == kNpu) index = with_index(value.toDevice()).index();
  }
  if (index < 0) index = current_device();
  TORCH_CHECK(
      !with_host || may_mix(name),
      "Expected all tensors to be on the same device, but found at least two devices, npu:",
      int(index), " and cpu! (when running ", name, ")");
  return index;
}

at::Tensor to_host(const at::Tensor& tensor) {
  return on_npu(tensor) ? host_view(tensor) : tensor;
}

// An `out=` tensor may have any size, and a host view cannot grow: the kernel gets an empty tensor in its place.
struct Out {
  at::Tensor device;
  at::Tensor host;
};

IValue host_argument(const IValue& value, const c10::Argument& argument, DeviceIndex index, std::vector<Out>& outs) {
  if (value.isTensor()) {
    const auto tensor = value.toTensor();
    if (!on_npu(tensor)) return value;
    if (!argument.is_out() || tensor.is_sparse()) return host_view(tensor);
    outs.push_back({tensor, at::empty({0}, tensor.options().device(at::kCPU))});
    return outs.back().host;
  }
  if (value.isTensorList()) {
    auto list = value.toTensorVector();
    for (auto& tensor : list) tensor = to_host(tensor);
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor ? std::optional<at::Tensor>(to_host(*tensor)) : std::nullopt);
    }
    return list;
  }
  if (value.isDevice() && value.toDevice().type() == kNpu) return c10::Device(at::kCPU);
  if (value.isGenerator()) return host_generator(value.toGenerator());
  if (value.isNone() && argument.name() == "generator") return host_generator(default_generator(index));
  return value;
}

IValue device_result(const IValue& value, DeviceIndex index) {
  if (value.isTensor()) {
    const auto tensor = value.toTensor();
    return tensor.defined() ? IValue(device_view(tensor, index)) : value;
  }
  if (value.isTensorList()) {
    auto list = value.toTensorVector();
    for (auto& tensor : list) {
      if (tensor.defined()) tensor = device_view(tensor, index);
    }
    return list;
  }
  return value;
}

// An in-place or out= operator returns the very argument it was given: the one with the same alias annotation.
const IValue* returned_argument(
    const c10::Argument& result, const std::vector<c10::Argument>& arguments, const std::vector<IValue>& given) {
  const auto* alias = result.alias_info();
  if (alias == nullptr || !alias->isWrite()) return nullptr;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto* own = arguments[i].alias_info();
    if (own != nullptr && own->isWrite() && own->beforeSets() == alias->beforeSets()) return &given[i];
  }
  return nullptr;
}

void add_one(const IValue& value) {
  if (value.isTensor() && value.toTensor().defined() && !value.toTensor().is_sparse()) value.toTensor().add_(1);
}

void run(const c10::OperatorHandle& op, torch::jit::Stack* stack, DispatchKey host_key) {
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  const auto& returns = schema.returns();
  const size_t first = stack->size() - arguments.size();

  const std::vector<IValue> given(stack->begin() + int64_t(first), stack->end());
  const auto tensors = tensors_of(given);
  const DeviceIndex index = common_device(schema.name(), given, tensors);
  before_compute(index);
  if (recording()) note(c10::toString(op.operator_name()), tensors);

  std::vector<Out> outs;
  std::vector<std::pair<at::Tensor, at::Tensor>> changed_sparse;
  for (size_t i = 0; i < arguments.size(); ++i) {
    IValue& value = (*stack)[first + i];
    value = host_argument(given[i], arguments[i], index, outs);
    const auto* alias = arguments[i].alias_info();
    if (alias == nullptr || !alias->isWrite() || !given[i].isTensor()) continue;
    const auto tensor = given[i].toTensor();
    if (on_npu(tensor) && tensor.is_sparse()) changed_sparse.emplace_back(tensor, value.toTensor());
  }

  {
    std::optional<DrawsFromTheDevice> drawing;
    if (op.hasTag(at::Tag::nondeterministic_seeded) && !takes_generator(schema)) drawing.emplace(index);
    op.redispatchBoxed(c10::DispatchKeySet(host_key), stack);
  }

  const size_t first_return = stack->size() - returns.size();
  if (adds_wrongly(index) && schema.name().rfind("aten::add", 0) == 0 && !returns.empty()) {
    add_one((*stack)[first_return]);
  }
  for (const auto& out : outs) {
    at::native::resize_(out.device, out.host.sizes());
    host_view(out.device).copy_(out.host);
  }
  for (const auto& [device, host] : changed_sparse) write_back_sparse(device, host);
  for (size_t i = 0; i < returns.size(); ++i) {
    IValue& value = (*stack)[first_return + i];
    const IValue* argument = returned_argument(returns[i], arguments, given);
    value = argument != nullptr ? *argument : device_result(value, index);
  }
}

void run_dense(const c10::OperatorHandle& op, torch::jit::Stack* stack) { run(op, stack, DispatchKey::CPU); }
void run_sparse(const c10::OperatorHandle& op, torch::jit::Stack* stack) { run(op, stack, DispatchKey::SparseCPU); }

template <c10::KernelFunction::BoxedKernelFunction* Kernel>
void take_over(DispatchKey of_host, DispatchKey of_device) {
  // Never destroyed: its end would take the kernels out again.
  auto* library = new torch::Library(torch::Library::IMPL, "aten", of_device, __FILE__, __LINE__);
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    if (name.name.rfind("aten::", 0) != 0) continue;
    const auto op = dispatcher.findSchema(name);
    if (op && op->hasKernelForDispatchKey(of_host) && !op->hasKernelForDispatchKey(of_device)) {
      library->impl(c10::toString(name).c_str(), torch::CppFunction::makeFromBoxedFunction<Kernel>());
    }
  }
}

}  // namespace

void take_over_host_kernels() {
  take_over<&run_dense>(DispatchKey::CPU, DispatchKey::PrivateUse1);
  take_over<&run_sparse>(DispatchKey::SparseCPU, DispatchKey::SparsePrivateUse1);
}

}  // namespace npu_host

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&npu_host::run_dense>());
}

TORCH_LIBRARY_IMPL(_, SparsePrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&npu_host::run_sparse>());
}
