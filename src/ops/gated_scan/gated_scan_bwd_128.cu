// The backward kernels of states with 128 rows: files of their own, because they take long to
// compile.
#include "ops/gated_scan/gated_scan_bwd_chunk.cuh"

namespace tigon::cuda {

template cudaError_t launch_gated_scan_bwd_rows<128>(const GatedScanParams&, cudaStream_t);

}  // namespace tigon::cuda
