// A device of torch whose memory is the processor's, and which nothing but its own operations may touch.
//
// Every operation is the processor's, on copies (torch's own fallback); what a real device refuses is refused here too:
// tensors of two devices in one operation, generators of another device, more memory than a limit, float64 where asked.
#include <ATen/TensorOperators.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/InferSize.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

namespace {

using at::Tensor;
constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device HERE(KIND, 0);

int64_t limit = std::numeric_limits<int64_t>::max(), used = 0, most = 0, calls = 0;
bool wide = true;  // whether float64 is there

struct Block { void* data; int64_t bytes; };

void release(void* context) {
  auto* block = static_cast<Block*>(context);
  used -= block->bytes;
  c10::free_cpu(block->data);
  delete block;
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    TORCH_CHECK_WITH(OutOfMemoryError, used + (int64_t)bytes <= limit, "simulated device out of memory: tried to allocate ", bytes, " bytes");
    used += bytes;
    most = std::max(most, used);
    auto* block = new Block{bytes ? c10::alloc_cpu(bytes) : nullptr, (int64_t)bytes};
    return {block->data, block, &release, HERE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
} allocator;

struct Generator final : at::CPUGeneratorImpl {
  Generator(uint64_t seed = c10::default_rng_seed_val) : CPUGeneratorImpl(seed) {
    device_ = HERE;
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};

const at::Generator& standard() {
  static at::Generator made = at::make_generator<Generator>();
  return made;
}

struct Hooks final : at::PrivateUse1HooksInterface {
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return standard(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<Generator>(); }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  at::Device getDeviceFromPtr(void*) const override { return HERE; }
} hooks;

struct Guard final : c10::impl::DeviceGuardImplInterface {  // one device, one stream, nothing to wait for
  static constexpr c10::DeviceType static_type = KIND;
  Guard() = default;
  explicit Guard(c10::DeviceType) {}
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device) const override { return HERE; }
  c10::Device getDevice() const override { return HERE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, HERE); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

void check(at::ScalarType type) {
  TORCH_CHECK_TYPE(wide || (type != at::kDouble && type != at::kComplexDouble), "the simulated device has no float64");
}

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  auto type = dtype.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
  check(type);
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type, format);
}

Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  auto type = dtype.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
  check(type);
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type);
}

Tensor here(const Tensor& tensor) {  // the same memory as the processor's
  if (tensor.device().is_cpu()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

Tensor copy_from(const Tensor& self, const Tensor& to, bool) {
  here(to).copy_(here(self));
  return to;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& to) {
  to.resize_(self.sizes());
  return copy_from(self, to, false);
}

at::Scalar item(const Tensor& self) { return here(self).item(); }

Tensor there(const Tensor& tensor) { return tensor.defined() ? tensor.to(HERE) : tensor; }
Tensor plain(const std::optional<Tensor>& tensor) { return tensor.has_value() && tensor->defined() ? here(*tensor) : Tensor(); }

Tensor convolution(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, c10::SymIntArrayRef s, c10::SymIntArrayRef p, c10::SymIntArrayRef d, bool t, c10::SymIntArrayRef o, c10::SymInt g) {
  return there(at::convolution_symint(here(x), here(w), plain(b), s, p, d, t, o, g));
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(const Tensor& g, const Tensor& x, const Tensor& w, c10::SymIntArrayRef s, c10::SymIntArrayRef p, c10::SymIntArrayRef d, bool t, c10::SymIntArrayRef o, c10::SymInt n, std::array<bool, 3> mask) {
  auto made = at::convolution_backward_symint(here(g), here(x), here(w), at::OptionalSymIntArrayRef(w.sym_sizes().slice(0, 1)), s, p, d, t, o, n, mask);
  return {there(std::get<0>(made)), there(std::get<1>(made)), there(std::get<2>(made))};
}

std::tuple<Tensor, Tensor> gru_cell(const Tensor& ih, const Tensor& hh, const Tensor& h, const std::optional<Tensor>& bi, const std::optional<Tensor>& bh) {
  auto i = (bi.has_value() && bi->defined() ? ih + *bi : ih).chunk(3, 1), k = (bh.has_value() && bh->defined() ? hh + *bh : hh).chunk(3, 1);
  auto reset = (i[0] + k[0]).sigmoid(), update = (i[1] + k[1]).sigmoid(), fresh = (i[2] + reset * k[2]).tanh();
  return {fresh + update * (h - fresh), h};
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  ++calls;
  const auto& arguments = op.schema().arguments();
  auto begin = stack->size() - arguments.size();
  std::optional<at::Generator> ours;
  auto refuse = [&](const Tensor& tensor) {
    if (!tensor.defined() || tensor.device() == HERE) return;
    TORCH_CHECK(tensor.device().is_cpu() && tensor.dim() == 0, "Expected all tensors to be on the same device, but found at least two devices, ", HERE, " and ", tensor.device(), ", in ", op.schema().name());
  };
  for (size_t k = 0; k < arguments.size(); ++k) {
    auto& value = (*stack)[begin + k];
    if (value.isTensor()) refuse(value.toTensor());
    else if (value.isTensorList()) for (const Tensor& each : value.toTensorVector()) refuse(each);
    else if (value.isList() && arguments[k].name() != "indices") for (const c10::IValue each : value.toListRef()) if (each.isTensor()) refuse(each.toTensor());
    if (arguments[k].name() == "generator") {
      ours = value.isNone() ? standard() : value.toGenerator();
      TORCH_CHECK(ours->device() == HERE, "Expected a '", HERE, "' generator but found one of ", ours->device());
      auto own = at::make_generator<at::CPUGeneratorImpl>();
      own.set_state(ours->get_state());
      value = own;
      at::native::cpu_fallback(op, stack);
      ours->set_state(own.get_state());
      return;
    }
  }
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("view", at::native::view);
  m.impl("unfold", at::native::unfold);
  m.impl("resize_", at::native::resize_);
  m.impl("set_.source_Tensor", at::native::set_tensor_);
  m.impl("set_.source_Storage", at::native::set_);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", item);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, m) { m.impl("_thnn_fused_gru_cell", gru_cell); }

TORCH_LIBRARY(simulated, m) {
  m.def("generator() -> Generator?", [] { return standard(); });
  m.def("limit(int bytes) -> ()", [](int64_t bytes) { limit = bytes; });
  m.def("wide(bool has_float64) -> ()", [](bool has) { wide = has; });
  m.def("used() -> int", [] { return used; });
  m.def("most() -> int", [] { return most; });
  m.def("calls() -> int", [] { return calls; });
}

const bool ready = [] {
  c10::SetAllocator(KIND, &allocator);
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace
