// Chooses the backward kernel by the state's rows.
#include "ops/gated_scan/gated_scan_bwd.cuh"

namespace tigon::cuda {

bool has_gated_scan_kernels(int key_dim, int value_dim) {
  const auto exists = [](auto) { return cudaSuccess; };
  return with_key_dim(key_dim, exists) == cudaSuccess &&
         with_value_dim(value_dim, exists) == cudaSuccess;
}

int gated_scan_shared_memory(int key_dim, int value_dim) {
  int bytes = 0;
  with_key_dim(key_dim, [&](auto rows) {
    return with_value_dim(value_dim, [&](auto columns) {
      bytes = sizeof(BwdShared<decltype(rows)::value, decltype(columns)::value>);
      return cudaSuccess;
    });
  });
  return bytes;
}

cudaError_t launch_gated_scan_bwd(const GatedScanParams& params, cudaStream_t stream) {
  return with_key_dim(params.key_dim, [&](auto rows) {
    return launch_gated_scan_bwd_rows<decltype(rows)::value>(params, stream);
  });
}

}  // namespace tigon::cuda
