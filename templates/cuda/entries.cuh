
// What the launcher launches: SEQC_KERNEL names the struct, SEQC_CUT says whether time may be cut.
namespace seqc {

template <class K>
SEQC_INLINE void march(const Args<K>& args) {
  if constexpr (K::kInner) {
    march_inner(args);
  } else {
    march_flat(args);
  }
}
template <class K>
constexpr int kMarchThreads = K::kInner ? Inner<K>::kThreads : kFlatThreads;
template <class K>
constexpr int kMarchBlocks = K::kInner ? Inner<K>::kBlocks : kFlatBlocks;

}  // namespace seqc

using SeqcKernel = seqc::SEQC_KERNEL;

extern "C" __global__ void __launch_bounds__(seqc::kMarchThreads<SeqcKernel>, seqc::kMarchBlocks<SeqcKernel>)
    seqc_march(const __grid_constant__ seqc::Args<SeqcKernel> args) {
  seqc::march(args);
}
#if SEQC_CUT
extern "C" __global__ void __launch_bounds__(seqc::kScanThreads, 2) seqc_scan(const __grid_constant__ seqc::Args<SeqcKernel> args) {
  seqc::scan(args);
}
#endif
#ifdef SEQC_EMULATOR
SEQC_EMULATOR_ENTRY(seqc_march)
#if SEQC_CUT
SEQC_EMULATOR_ENTRY(seqc_scan)
#endif
#endif
