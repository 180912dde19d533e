
// What the launcher calls.
extern "C" void seqc_forward(const std::int64_t* sizes, void* const* data, const std::int64_t* strides, const double* scalars, std::int64_t threads) {
  seqc::run_steps<seqc::Forward>(sizes, data, strides, scalars, threads);
}
extern "C" void seqc_backward(const std::int64_t* sizes, void* const* data, const std::int64_t* strides, const double* scalars, std::int64_t threads) {
  seqc::run_steps<seqc::Backward>(sizes, data, strides, scalars, threads);
}
