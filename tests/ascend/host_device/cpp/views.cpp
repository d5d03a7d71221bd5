// One memory, seen as a device tensor or as a host tensor. A host view keeps the device's storage alive and remembers
// it, so that a kernel which returns a view of its argument returns a view on the device, too.
#include "host_device.h"

#include <ATen/SparseTensorImpl.h>

namespace npu_host {
namespace {

using c10::DispatchKey;
using c10::DispatchKeySet;

void forget_device_storage(void* context) {
  delete static_cast<c10::Storage*>(context);
}

// A host kernel must not resize it: it would get more memory, and the device's tensor would stay without. The parts of
// a sparse tensor may be resized, because the tensor takes them over afterwards (write_back_sparse).
c10::Storage host_storage(const c10::Storage& device, bool resizable) {
  c10::DataPtr data(
      device.mutable_data(), new c10::Storage(device), &forget_device_storage, c10::Device(c10::DeviceType::CPU));
  return {
      c10::Storage::use_byte_size_t(), device.nbytes(), std::move(data),
      resizable ? c10::GetAllocator(c10::DeviceType::CPU) : nullptr, resizable};
}

c10::Storage device_storage(const c10::Storage& host, c10::DeviceIndex index) {
  if (host.data_ptr().get_deleter() == &forget_device_storage) {
    return *static_cast<c10::Storage*>(host.data_ptr().get_context());
  }
  return {c10::Storage::use_byte_size_t(), host.nbytes(), adopt(host, index), &allocator(), /*resizable=*/true};
}

at::Tensor strided(c10::Storage storage, DispatchKey key, const at::Tensor& like) {
  auto result = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), DispatchKeySet(key), like.dtype());
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  if (like.is_neg()) result._set_neg(true);
  if (like.is_conj()) result._set_conj(true);
  return result;
}

at::SparseTensorImpl* sparse_impl(const at::Tensor& tensor) {
  return static_cast<at::SparseTensorImpl*>(tensor.unsafeGetTensorImpl());
}

template <typename Convert>
at::Tensor sparse(const at::Tensor& tensor, DispatchKey key, const Convert& convert) {
  const auto* from = sparse_impl(tensor);
  auto result = at::detail::make_tensor<at::SparseTensorImpl>(DispatchKeySet(key), tensor.dtype());
  auto* impl = sparse_impl(result);
  impl->resize_(from->sparse_dim(), from->dense_dim(), tensor.sizes());
  impl->set_indices_and_values_unsafe(convert(from->indices()), convert(from->values()));
  impl->set_coalesced(from->coalesced());
  return result;
}

void refuse_other_layouts(const at::Tensor& tensor) {
  TORCH_CHECK(
      tensor.layout() == c10::kStrided || tensor.layout() == c10::kSparse, "npu: no tensors of layout ",
      tensor.layout());
}

}  // namespace

at::Tensor host_view(const at::Tensor& device_tensor) {
  refuse_other_layouts(device_tensor);
  if (device_tensor.is_sparse()) {
    return sparse(device_tensor, DispatchKey::SparseCPU, [](const at::Tensor& part) {
      return strided(host_storage(part.storage(), /*resizable=*/true), DispatchKey::CPU, part);
    });
  }
  return strided(host_storage(device_tensor.storage(), /*resizable=*/false), DispatchKey::CPU, device_tensor);
}

at::Tensor device_view(const at::Tensor& host_tensor, c10::DeviceIndex index) {
  refuse_other_layouts(host_tensor);
  if (host_tensor.is_sparse()) {
    return sparse(host_tensor, DispatchKey::SparsePrivateUse1, [&](const at::Tensor& part) {
      return device_view(part, index);
    });
  }
  return strided(device_storage(host_tensor.storage(), index), DispatchKey::PrivateUse1, host_tensor);
}

void write_back_sparse(const at::Tensor& device_tensor, const at::Tensor& host_tensor) {
  auto* to = sparse_impl(device_tensor);
  const auto* from = sparse_impl(host_tensor);
  const auto index = device_tensor.device().index();
  to->raw_resize_(from->sparse_dim(), from->dense_dim(), host_tensor.sizes());
  to->set_indices_and_values_unsafe(device_view(from->indices(), index), device_view(from->values(), index));
  to->set_coalesced(from->coalesced());
}

}  // namespace npu_host
