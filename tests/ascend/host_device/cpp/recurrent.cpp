// The cells of GRU and LSTM. Off the host, PyTorch calls one fused operator per step and expects a workspace for the
// backward pass; no host kernel exists for it, so the formulas are written out.
#include "host_device.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

namespace npu_host {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor biased(const Tensor& gates, const OptionalTensor& bias) {
  return bias && bias->defined() ? gates + *bias : gates;
}

Tensor column_sum(const Tensor& gates, bool has_bias) {
  return has_bias ? gates.sum(0) : Tensor();
}

std::tuple<Tensor, Tensor> gru_cell(
    const Tensor& input_gates, const Tensor& hidden_gates, const Tensor& hx, const OptionalTensor& input_bias,
    const OptionalTensor& hidden_bias) {
  note("aten::_thnn_fused_gru_cell", {input_gates, hidden_gates, hx});
  const auto i = biased(input_gates, input_bias).chunk(3, 1);
  const auto h = biased(hidden_gates, hidden_bias).chunk(3, 1);
  const auto reset = at::sigmoid(i[0] + h[0]);
  const auto update = at::sigmoid(i[1] + h[1]);
  const auto fresh = at::tanh(i[2] + reset * h[2]);
  return {fresh + update * (hx - fresh), at::cat({reset, update, fresh, h[2], hx}, 1)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gru_cell_backward(
    const Tensor& grad, const Tensor& workspace, bool has_bias) {
  note("aten::_thnn_fused_gru_cell_backward", {grad, workspace});
  const auto saved = workspace.chunk(5, 1);
  const auto &reset = saved[0], &update = saved[1], &fresh = saved[2], &hidden_fresh = saved[3], &hx = saved[4];
  const auto of_fresh = grad * (1 - update) * (1 - fresh * fresh);
  const auto of_update = grad * (hx - fresh) * update * (1 - update);
  const auto of_reset = of_fresh * hidden_fresh * reset * (1 - reset);
  const auto of_input = at::cat({of_reset, of_update, of_fresh}, 1);
  const auto of_hidden = at::cat({of_reset, of_update, of_fresh * reset}, 1);
  return {of_input, of_hidden, grad * update, column_sum(of_input, has_bias), column_sum(of_hidden, has_bias)};
}

std::tuple<Tensor, Tensor, Tensor> lstm_cell(
    const Tensor& input_gates, const Tensor& hidden_gates, const Tensor& cx, const OptionalTensor& input_bias,
    const OptionalTensor& hidden_bias) {
  note("aten::_thnn_fused_lstm_cell", {input_gates, hidden_gates, cx});
  const auto gates = (biased(input_gates, input_bias) + biased(hidden_gates, hidden_bias)).chunk(4, 1);
  const auto in = at::sigmoid(gates[0]);
  const auto forget = at::sigmoid(gates[1]);
  const auto fresh = at::tanh(gates[2]);
  const auto out = at::sigmoid(gates[3]);
  const auto cy = forget * cx + in * fresh;
  return {out * at::tanh(cy), cy, at::cat({in, forget, fresh, out}, 1)};
}

std::tuple<Tensor, Tensor, Tensor> lstm_cell_backward(
    const OptionalTensor& grad_hy, const OptionalTensor& grad_cy, const Tensor& cx, const Tensor& cy,
    const Tensor& workspace, bool has_bias) {
  note("aten::_thnn_fused_lstm_cell_backward_impl", {cx, cy, workspace});
  const auto saved = workspace.chunk(4, 1);
  const auto &in = saved[0], &forget = saved[1], &fresh = saved[2], &out = saved[3];
  const auto squashed = at::tanh(cy);
  const auto of_hy = grad_hy && grad_hy->defined() ? *grad_hy : at::zeros_like(cy);
  auto of_cy = of_hy * out * (1 - squashed * squashed);
  if (grad_cy && grad_cy->defined()) of_cy = of_cy + *grad_cy;
  const auto of_gates = at::cat(
      {of_cy * fresh * in * (1 - in), of_cy * cx * forget * (1 - forget), of_cy * in * (1 - fresh * fresh),
       of_hy * squashed * out * (1 - out)},
      1);
  return {of_gates, of_cy * forget, column_sum(of_gates, has_bias)};
}

}  // namespace
}  // namespace npu_host

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("_thnn_fused_gru_cell", TORCH_FN(npu_host::gru_cell));
  m.impl("_thnn_fused_gru_cell_backward", TORCH_FN(npu_host::gru_cell_backward));
  m.impl("_thnn_fused_lstm_cell", TORCH_FN(npu_host::lstm_cell));
  m.impl("_thnn_fused_lstm_cell_backward_impl", TORCH_FN(npu_host::lstm_cell_backward));
}
