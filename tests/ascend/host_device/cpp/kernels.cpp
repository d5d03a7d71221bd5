// Operators with an entry of their own: those that make, copy, resize and view memory, and convolutions.
#include "host_device.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

namespace npu_host {
namespace {

using at::IntArrayRef;
using at::Tensor;
using c10::SymInt;
using c10::SymIntArrayRef;
using OptionalTensor = std::optional<Tensor>;

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

Tensor host(const Tensor& tensor) {
  return on_npu(tensor) ? host_view(tensor) : tensor;
}

OptionalTensor host(const OptionalTensor& tensor) {
  return tensor && tensor->defined() ? OptionalTensor(host_view(*tensor)) : std::nullopt;
}

// ---- making --------------------------------------------------------------------------------------------------------

Tensor empty(
    IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<c10::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(with_index(device));
  const Tensor result(at::detail::empty_generic(size, &allocator(), kKeys, c10::dtype_or_default(dtype), format));
  note("aten::empty.memory_format", {result});
  return result;
}

Tensor empty_strided(
    IntArrayRef size, IntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<c10::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(with_index(device));
  const Tensor result(
      at::detail::empty_strided_generic(size, stride, &allocator(), kKeys, c10::dtype_or_default(dtype)));
  note("aten::empty_strided", {result});
  return result;
}

const Tensor& resize(const Tensor& self, SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  note("aten::resize_", {self});
  return at::native::resize_(self, C10_AS_INTARRAYREF_SLOW(size), format);
}

// ---- copying -------------------------------------------------------------------------------------------------------

Tensor copy_from(const Tensor& self, const Tensor& target, bool) {
  for (const auto& tensor : {self, target}) {
    if (on_npu(tensor)) before_compute(tensor.device().index());
  }
  note("aten::copy_", {target, self});
  host(target).copy_(host(self));
  return target;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& target) {
  at::native::resize_(target, self.sizes());
  return copy_from(self, target, false);
}

at::Scalar local_scalar(const Tensor& self) {
  before_compute(self.device().index());
  note("aten::_local_scalar_dense", {self});
  return at::_local_scalar_dense(host_view(self));
}

void record_stream(Tensor&, c10::Stream) {}

// ---- viewing: the same for every device, but an operator is recorded where it arrives ------------------------------

Tensor as_strided(const Tensor& self, IntArrayRef size, IntArrayRef stride, std::optional<int64_t> offset) {
  note("aten::as_strided", {self});
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

Tensor view(const Tensor& self, IntArrayRef size) {
  note("aten::view", {self});
  return at::native::view(self, size);
}

Tensor reshape_alias(const Tensor& self, IntArrayRef size, IntArrayRef stride) {
  note("aten::_reshape_alias", {self});
  return at::native::_reshape_alias(self, size, stride);
}

Tensor unfold(const Tensor& self, int64_t dim, int64_t size, int64_t step) {
  note("aten::unfold", {self});
  return at::native::unfold(self, dim, size, step);
}

Tensor view_as_real(const Tensor& self) {
  note("aten::view_as_real", {self});
  return at::native::view_as_real(self);
}

Tensor view_as_complex(const Tensor& self) {
  note("aten::view_as_complex", {self});
  return at::native::view_as_complex(self);
}

Tensor& set_storage_offset(Tensor& self, at::Storage source, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  if (stride.data() != nullptr) {
    impl->set_sizes_and_strides(size, stride, offset);
  } else {
    impl->set_sizes_contiguous(size);
    impl->set_storage_offset(offset);
  }
  return self;
}

Tensor& set_storage(Tensor& self, at::Storage source) {
  const auto elements = int64_t(source.nbytes() / self.dtype().itemsize());
  return set_storage_offset(self, std::move(source), 0, {elements}, {});
}

Tensor& set_empty(Tensor& self) {
  return set_storage(self, c10::Storage(c10::Storage::use_byte_size_t(), 0, &allocator(), /*resizable=*/true));
}

Tensor& set_tensor(Tensor& self, const Tensor& source) {
  return set_storage_offset(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

// ---- convolutions have entry points of their own on devices that are not the host ----------------------------------

Tensor convolution(
    const Tensor& input, const Tensor& weight, const OptionalTensor& bias, SymIntArrayRef stride,
    SymIntArrayRef padding, SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, SymInt groups) {
  const auto index = input.device().index();
  before_compute(index);
  note("aten::convolution_overrideable", {input, weight});
  return device_view(
      at::convolution_symint(
          host(input), host(weight), host(bias), stride, padding, dilation, transposed, output_padding, groups),
      index);
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& grad, const Tensor& input, const Tensor& weight, SymIntArrayRef stride, SymIntArrayRef padding,
    SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, SymInt groups, std::array<bool, 3> mask) {
  const auto index = input.device().index();
  before_compute(index);
  note("aten::convolution_backward_overrideable", {grad, input, weight});
  const SymInt channels = grad.size(1);
  auto [of_input, of_weight, of_bias] = at::convolution_backward_symint(
      host(grad), host(input), host(weight), SymIntArrayRef(channels), stride, padding, dilation, transposed,
      output_padding, groups, mask);
  const auto up = [&](const Tensor& tensor) { return tensor.defined() ? device_view(tensor, index) : tensor; };
  return {up(of_input), up(of_weight), up(of_bias)};
}

}  // namespace
}  // namespace npu_host

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", TORCH_FN(npu_host::empty));
  m.impl("empty_strided", TORCH_FN(npu_host::empty_strided));
  m.impl("resize_", TORCH_FN(npu_host::resize));
  m.impl("_copy_from", TORCH_FN(npu_host::copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(npu_host::copy_from_and_resize));
  m.impl("_local_scalar_dense", TORCH_FN(npu_host::local_scalar));
  m.impl("record_stream", TORCH_FN(npu_host::record_stream));
  m.impl("as_strided", TORCH_FN(npu_host::as_strided));
  m.impl("view", TORCH_FN(npu_host::view));
  m.impl("_reshape_alias", TORCH_FN(npu_host::reshape_alias));
  m.impl("unfold", TORCH_FN(npu_host::unfold));
  m.impl("view_as_real", TORCH_FN(npu_host::view_as_real));
  m.impl("view_as_complex", TORCH_FN(npu_host::view_as_complex));
  m.impl("set_", TORCH_FN(npu_host::set_empty));
  m.impl("set_.source_Storage", TORCH_FN(npu_host::set_storage));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(npu_host::set_storage_offset));
  m.impl("set_.source_Tensor", TORCH_FN(npu_host::set_tensor));
  m.impl("convolution_overrideable", TORCH_FN(npu_host::convolution));
  m.impl("convolution_backward_overrideable", TORCH_FN(npu_host::convolution_backward));
}

// A conjugated or negated view is copied as it is: the host's copy_ takes care of it. PyTorch would first resolve it
// with a copy, which arrives here again, without end.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
