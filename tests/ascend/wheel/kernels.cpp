// Host kernels in the place of torch_npu's own, over the AscendCL of acl.c: each ATen operator that torch_npu registers
// for its device runs torch's CPU kernel on the same memory. torch_npu keeps everything else: allocator, storage, views,
// streams, generators, autocast lists, hooks. Nothing here is evidence about hardware.
#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/binary_cross_entropy_with_logits_native.h>
#include <ATen/ops/matmul_native.h>
#include <torch/library.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr auto kDevice = c10::DeviceType::PrivateUse1;
constexpr auto kKey = c10::DispatchKey::PrivateUse1;
using Stack = torch::jit::Stack;

// Views and allocation stay torch_npu's: they concern no values.
const std::set<std::string> kKept = {
    "alias", "as_strided", "as_strided_", "detach", "empty", "empty_like", "empty_strided", "is_pinned", "is_set_to",
    "record_stream", "resize_", "set_", "unfold", "view", "view_as_complex", "view_as_real", "_pin_memory",
    "_reshape_alias", "_resize_output_"};
// May be given tensors of the host beside tensors of the device, as on every accelerator.
const std::set<std::string> kMixing = {
    "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::copy_", "aten::_copy_from",
    "aten::_copy_from_and_resize", "aten::_to_copy"};

bool on_device(const at::Tensor& tensor) { return tensor.defined() && tensor.device().type() == kDevice; }

// A host tensor over the same memory, which it keeps alive.
at::Tensor host_view(const at::Tensor& tensor) {
  if (!on_device(tensor)) return tensor;
  auto view = at::from_blob(
      tensor.numel() ? tensor.data_ptr() : nullptr, tensor.sizes(), tensor.strides(),
      [keep = at::Tensor(tensor)](void*) mutable { keep.reset(); },
      tensor.options().device(at::kCPU).requires_grad(false));
  if (tensor.is_neg()) view._set_neg(true);
  if (tensor.is_conj()) view._set_conj(true);
  return view;
}

at::Tensor to_device(const at::Tensor& given, c10::Device device) {
  if (!given.defined()) return given;
  // A view of an expanded tensor is written out: no copy can go to memory that stands for several elements.
  const auto host = at::has_internal_overlap(given) == at::MemOverlap::Yes ? given.contiguous() : given;
  c10::DeviceGuard guard(device);
  auto result = at::empty_strided(host.sizes(), host.strides(), host.options().device(device));
  host_view(result).copy_(host);
  return result;
}

// One draw of the device's generator seeds a generator of the host.
at::Generator host_generator(at::Generator generator) {
  std::lock_guard<std::mutex> lock(generator.mutex());
  auto* state = generator.unsafeGetGeneratorImpl();
  const uint64_t offset = state->get_offset();
  state->set_offset(offset + 4);
  return at::detail::createCPUGenerator(state->current_seed() * 0x9E3779B97F4A7C15ull + offset);
}

template <typename Look>
void each_tensor(const c10::IValue& value, Look look) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) look(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) look(tensor);
  } else if (value.isOptionalTensorList()) {
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
      if (tensor) look(*tensor);
  }
}

// The device of a call; tensors of two places are refused as torch refuses them.
c10::Device device_of(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments) {
  std::optional<c10::Device> found;
  bool host_operand = false;
  const auto& name = op.schema().name();
  for (const auto& value : arguments) {
    each_tensor(value, [&](const at::Tensor& tensor) {
      if (!on_device(tensor)) {
        host_operand |= tensor.dim() > 0;
        return;
      }
      TORCH_CHECK(!found || *found == tensor.device() || tensor.dim() == 0,
                  "Expected all tensors to be on the same device, but found at least two devices, ", *found, " and ",
                  tensor.device(), "! (", name, ")");
      if (!found) found = tensor.device();
    });
    if (value.isDevice() && value.toDevice().type() == kDevice && !found) found = value.toDevice();
  }
  TORCH_CHECK(!host_operand || !found || kMixing.count(name),
              "Expected all tensors to be on the same device, but found at least two devices, ", *found, " and cpu! (",
              name, ")");
  if (found && found->has_index()) return *found;
  return c10::Device(kDevice, c10::impl::getDeviceGuardImpl(kDevice)->getDevice().index());
}

// An argument for the CPU kernel. An output given by the caller becomes an empty tensor, kept in `outputs`.
c10::IValue on_host(const c10::IValue& value, const c10::Argument& argument, c10::Device device,
                    std::vector<std::pair<at::Tensor, at::Tensor>>& outputs) {
  if (value.isTensor()) {
    auto tensor = value.toTensor();
    if (!argument.is_out() || !on_device(tensor)) return host_view(tensor);
    outputs.emplace_back(tensor, at::empty({0}, tensor.options().device(at::kCPU)));
    return outputs.back().second;
  }
  if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    for (auto& tensor : tensors) tensor = host_view(tensor);
    return c10::IValue(std::move(tensors));
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> tensors;
    for (const auto& tensor : value.toOptionalTensorVector())
      tensors.push_back(tensor ? std::optional<at::Tensor>(host_view(*tensor)) : std::nullopt);
    return c10::IValue(std::move(tensors));
  }
  if (value.isDevice() && value.toDevice().type() == kDevice) return c10::IValue(c10::Device(at::kCPU));
  if (value.isGenerator() && value.toGenerator().device().type() == kDevice)
    return c10::IValue(host_generator(value.toGenerator()));
  if (value.isNone() && argument.name() == "generator")
    return c10::IValue(host_generator(at::globalContext().defaultGenerator(device)));
  return value;
}

// A result for the caller: the argument that the operator wrote to, or a new tensor of the device.
c10::IValue on_way_back(const c10::IValue& value, const c10::Argument& returned, const c10::FunctionSchema& schema,
                        const std::vector<c10::IValue>& arguments, c10::Device device) {
  const auto* alias = returned.alias_info();
  if (alias && alias->isWrite()) {
    for (size_t i = 0; i < arguments.size(); ++i) {
      const auto* other = schema.arguments()[i].alias_info();
      if (other && other->isWrite() && other->beforeSets() == alias->beforeSets()) return arguments[i];
    }
  }
  if (value.isTensor()) return to_device(value.toTensor(), device);
  if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    for (auto& tensor : tensors) tensor = to_device(tensor, device);
    return c10::IValue(std::move(tensors));
  }
  return value;
}

void run_on_host(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const size_t count = schema.arguments().size(), first = stack->size() - count;
  const std::vector<c10::IValue> arguments(stack->begin() + first, stack->end());
  const auto device = device_of(op, arguments);
  std::vector<std::pair<at::Tensor, at::Tensor>> outputs;
  bool to_another_device = false;
  for (size_t i = 0; i < count; ++i) {
    to_another_device |= arguments[i].isDevice() && arguments[i].toDevice().type() != kDevice;
    (*stack)[first + i] = on_host(arguments[i], schema.arguments()[i], device, outputs);
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (auto& [output, host] : outputs) {
    output.resize_(host.sizes());
    host_view(output).copy_(host);
  }
  const auto& returns = schema.returns();
  const size_t first_result = stack->size() - returns.size();
  for (size_t i = 0; i < returns.size() && !to_another_device; ++i) {
    auto& value = (*stack)[first_result + i];
    value = on_way_back(value, returns[i], schema, arguments, device);
  }
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool) {
  host_view(to).copy_(host_view(self));
  return to;
}
at::Tensor& copy_(at::Tensor& self, const at::Tensor& from, bool) {
  host_view(self).copy_(host_view(from));
  return self;
}
at::Scalar local_scalar(const at::Tensor& self) { return at::_local_scalar_dense(host_view(self)); }

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const std::optional<at::Tensor>& mask, double dropout, bool causal, std::optional<double> scale,
                     bool grouped) {
  return std::get<0>(at::_scaled_dot_product_attention_math(query, key, value, mask, dropout, causal, std::nullopt,
                                                            scale, grouped));
}

bool host_can(const c10::OperatorHandle& op) {
  for (auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CompositeExplicitAutograd,
                   c10::DispatchKey::CompositeImplicitAutograd,
                   c10::DispatchKey::CompositeExplicitAutogradNonFunctional})
    if (op.hasKernelForDispatchKey(key)) return true;
  return false;
}

std::vector<std::unique_ptr<torch::Library>>& installed() {
  static auto* libraries = new std::vector<std::unique_ptr<torch::Library>>;
  return *libraries;
}

// Replaces the kernels; returns their operators.
std::vector<std::string> install() {
  std::vector<std::string> replaced;
  auto kernels = std::make_unique<torch::Library>(torch::Library::IMPL, "aten", kKey, __FILE__, __LINE__);
  for (const auto& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.name.rfind("aten::", 0) != 0 || kKept.count(name.name.substr(6))) continue;
    const auto op = c10::Dispatcher::singleton().findOp(name);
    if (!op || !op->hasKernelForDispatchKey(kKey)) continue;
    const auto full = name.name.substr(6) + (name.overload_name.empty() ? "" : "." + name.overload_name);
    if (full == "_copy_from") kernels->impl("_copy_from", TORCH_FN(copy_from));
    else if (full == "copy_") kernels->impl("copy_", TORCH_FN(copy_));
    else if (full == "_local_scalar_dense") kernels->impl("_local_scalar_dense", TORCH_FN(local_scalar));
    else if (host_can(*op)) kernels->impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
    else continue;
    replaced.push_back(full);
  }
  installed().push_back(std::move(kernels));
  // torch_npu differentiates these by formulas that call its device kernels directly: the framework's own instead.
  auto formulas = std::make_unique<torch::Library>(torch::Library::IMPL, "aten",
                                                   c10::DispatchKey::AutogradPrivateUse1, __FILE__, __LINE__);
  formulas->impl("matmul", TORCH_FN(at::native::matmul));
  formulas->impl("binary_cross_entropy_with_logits", TORCH_FN(at::native::binary_cross_entropy_with_logits));
  formulas->impl("scaled_dot_product_attention", TORCH_FN(attention));
  installed().push_back(std::move(formulas));
  return replaced;
}

}  // namespace

TORCH_LIBRARY(host_kernels, library) {
  library.def("install() -> str[]", [] { return install(); });
}
