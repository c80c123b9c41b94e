// Computes  of each row z of logits, with p = softmax(z): nll = −log p(target), and in z's place
//           d = (w_target + w_teacher)·p − w_target·onehot(target) − w_teacher·p_teacher. With a
//           teacher's logits, p_teacher = softmax of them and teacher_loss = −Σ p_teacher log p.
//           Ignored rows: zeros. float32 inside; d is rounded once.
// Shapes    logits, teacher_logits [C, V]; targets [C] int64; nll, teacher_loss [C] float32. T is
//           float32, bfloat16 or float16.
// Grid      One block of 1024 threads a row.
// Tiles     A thread takes one 16-byte vector at a time. Rows need not begin at multiples of 16
//           bytes (odd V): up to 7 numbers at either end are taken one by one.
// Memory    The row is walked twice, for its sums and for its gradient; the second walk goes
//           backwards, for the end of a row is what the caches still hold (a row of 128,256
//           bfloat16 numbers is 250 KiB, one for each of 132 multiprocessors 33 MB). Read from
//           memory per logit: once if L2 holds the rows in work, else up to twice; written once.
// Saves     Nothing: the gradient is made where the softmax is at hand.
// Order     Each thread's vectors ascending, then fixed trees over lanes and warps. Deterministic.
#include <cfloat>
#include <cstdio>

#include "ops/linear_cross_entropy/linear_cross_entropy_params.h"
#include "ops/vectors.cuh"

namespace tigon {
namespace {

constexpr int kWarpSize = 32;
constexpr int kWarps = 32;  // one entry for each lane of the warp that adds them up
constexpr int kThreads = kWarps * kWarpSize;
constexpr unsigned kAllLanes = 0xffffffffu;

// e^x for x ≤ 0. The fast form's error, 2 + 1.2·|x| ulp, grows only where e^x no longer counts.
__device__ float exponential(float x) {
  return __expf(x);
}

// Σ e^(z−largest), and the same sum of e^(z−largest)·other, over logits seen so far.
struct SoftmaxSums {
  float largest = -FLT_MAX, total = 0, weighted = 0;

  __device__ void rescale(float new_largest) {
    const float factor = exponential(largest - new_largest);
    total *= factor;
    weighted *= factor;
    largest = new_largest;
  }
  template <int kCount>
  __device__ void add(const float (&z)[kCount]) {
    grow(z);
#pragma unroll
    for (int i = 0; i < kCount; ++i) total += exponential(z[i] - largest);
  }
  template <int kCount>
  __device__ void add(const float (&z)[kCount], const float (&other)[kCount]) {
    grow(z);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float e = exponential(z[i] - largest);
      total += e;
      weighted += e * other[i];
    }
  }
  template <int kCount>
  __device__ void grow(const float (&z)[kCount]) {
    float most = z[0];
#pragma unroll
    for (int i = 1; i < kCount; ++i) most = fmaxf(most, z[i]);
    if (most > largest) rescale(most);
  }
  __device__ void merge(SoftmaxSums other) {
    const float most = fmaxf(largest, other.largest);
    rescale(most);
    other.rescale(most);
    total += other.total;
    weighted += other.weighted;
  }
};

__device__ SoftmaxSums over_warp(SoftmaxSums sums) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    SoftmaxSums other;
    other.largest = __shfl_down_sync(kAllLanes, sums.largest, offset);
    other.total = __shfl_down_sync(kAllLanes, sums.total, offset);
    other.weighted = __shfl_down_sync(kAllLanes, sums.weighted, offset);
    sums.merge(other);
  }
  sums.largest = __shfl_sync(kAllLanes, sums.largest, 0);  // lanes above 0 merged strangers
  sums.total = __shfl_sync(kAllLanes, sums.total, 0);
  sums.weighted = __shfl_sync(kAllLanes, sums.weighted, 0);
  return sums;
}

// The sums of all threads, in each of them; `of_warps` is shared memory for this call alone.
__device__ SoftmaxSums over_block(const SoftmaxSums& sums, float (&of_warps)[3][kWarps]) {
  const SoftmaxSums of_warp = over_warp(sums);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  if (lane == 0) {
    of_warps[0][warp] = of_warp.largest;
    of_warps[1][warp] = of_warp.total;
    of_warps[2][warp] = of_warp.weighted;
  }
  __syncthreads();
  SoftmaxSums result;
  result.largest = of_warps[0][lane];
  result.total = of_warps[1][lane];
  result.weighted = of_warps[2][lane];
  return over_warp(result);
}

template <int kWidth>
struct Width {
  static constexpr int value = kWidth;
};

template <typename T, int kWidth>
__device__ void load_values(const T* from, float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    values[0] = to_float(*from);
  } else {
    const FloatVector<T> vector = load_vector(from);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] = vector[i];
  }
}

template <typename T, int kWidth>
__device__ void store_values(T* to, const float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    *to = from_float<T>(values[0]);
  } else {
    FloatVector<T> vector;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) vector[i] = values[i];
    store_vector(to, vector);
  }
}

// A row as its 16-byte vectors and the numbers before and after them.
template <typename T>
struct Row {
  static constexpr int kCount = FloatVector<T>::kCount;
  int64_t size, head, vectors;

  __device__ Row(const T* row, int64_t row_size) : size(row_size) {
    const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
    const int64_t until_aligned = (kCount - past) % kCount;
    head = until_aligned < size ? until_aligned : size;
    vectors = (size - head) / kCount;
  }
  // visit(first index, Width) for the caller's share of the row.
  template <typename Visit>
  __device__ void for_each(Visit visit) const {
#pragma unroll 2
    for (int64_t v = threadIdx.x; v < vectors; v += kThreads) {
      visit(head + v * kCount, Width<kCount>{});
    }
    ends(visit);
  }
  // The same vectors the other way round.
  template <typename Visit>
  __device__ void for_each_backwards(Visit visit) const {
    const int64_t rounds = (vectors + kThreads - 1) / kThreads;
#pragma unroll 2
    for (int64_t v = (rounds - 1) * kThreads + threadIdx.x; v >= 0; v -= kThreads) {
      if (v < vectors) visit(head + v * kCount, Width<kCount>{});
    }
    ends(visit);
  }
  template <typename Visit>
  __device__ void ends(Visit visit) const {
    const int64_t thread = threadIdx.x, tail = head + vectors * kCount;
    if (thread < head) visit(thread, Width<1>{});
    if (tail + thread < size) visit(tail + thread, Width<1>{});
  }
};

template <typename T, bool kHasTeacher>
__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(const CrossEntropyParams params) {
  const int64_t row_index = blockIdx.x, V = params.vocabulary;
  T* logits = static_cast<T*>(params.logits) + row_index * V;
  const T* teacher = nullptr;
  if constexpr (kHasTeacher) {
    teacher = static_cast<const T*>(params.teacher_logits) + row_index * V;
  }
  const Row<T> row(logits, V);
  const int64_t target = params.targets[row_index];
  if (target == params.ignored_target) {
    if (threadIdx.x == 0) {
      params.nll[row_index] = 0;
      if constexpr (kHasTeacher) params.teacher_loss[row_index] = 0;
    }
    if (!params.writes_gradient) return;
    row.for_each([&](int64_t first, auto width) {
      const float zeros[decltype(width)::value] = {};
      store_values(logits + first, zeros);
    });
    return;
  }
  if (target < 0 || target >= V) {
    if (threadIdx.x == 0) {
      printf("[linear_cross_entropy] targets: expected ids from 0 to %lld, found %lld\n",
             static_cast<long long>(V - 1), static_cast<long long>(target));
    }
    __trap();
  }
  const float target_logit = to_float(logits[target]);

  SoftmaxSums student_sums, teacher_sums;
  row.for_each([&](int64_t first, auto width) {
    float z[decltype(width)::value];
    load_values(logits + first, z);
    student_sums.add(z);
    if constexpr (kHasTeacher) {
      float y[decltype(width)::value];
      load_values(teacher + first, y);
      teacher_sums.add(y, z);
    }
  });
  __shared__ float of_warps[1 + kHasTeacher][3][kWarps];
  student_sums = over_block(student_sums, of_warps[0]);
  if constexpr (kHasTeacher) teacher_sums = over_block(teacher_sums, of_warps[kHasTeacher]);
  const float log_total = logf(student_sums.total);
  if (threadIdx.x == 0) {
    params.nll[row_index] = log_total + (student_sums.largest - target_logit);
    if constexpr (kHasTeacher) {
      params.teacher_loss[row_index] =
          log_total + (student_sums.largest - teacher_sums.weighted / teacher_sums.total);
    }
  }
  if (!params.writes_gradient) return;

  const float student_factor = (params.target_weight + params.teacher_weight) / student_sums.total;
  const float teacher_factor = kHasTeacher ? params.teacher_weight / teacher_sums.total : 0;
  const auto gradient = [&](float z, float y) {
    const float value = exponential(z - student_sums.largest) * student_factor;
    return kHasTeacher ? value - exponential(y - teacher_sums.largest) * teacher_factor : value;
  };
  row.for_each_backwards([&](int64_t first, auto width) {
    constexpr int kWidth = decltype(width)::value;
    float z[kWidth], y[kWidth] = {};
    load_values(logits + first, z);
    if constexpr (kHasTeacher) load_values(teacher + first, y);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) z[i] = gradient(z[i], y[i]);
    store_values(logits + first, z);
  });
  __syncthreads();  // the target's number is written again, after whoever wrote it above
  if (threadIdx.x == 0) {
    const float teacher_logit = kHasTeacher ? to_float(teacher[target]) : 0;
    logits[target] = from_float<T>(gradient(target_logit, teacher_logit) - params.target_weight);
  }
}

template <typename T>
cudaError_t launch(const CrossEntropyParams& params, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(params.rows));
  if (params.teacher_logits != nullptr) {
    cross_entropy_kernel<T, true><<<grid, kThreads, 0, stream>>>(params);
  } else {
    cross_entropy_kernel<T, false><<<grid, kThreads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_cross_entropy(const CrossEntropyParams& params, cudaStream_t stream) {
  return for_element_type(params.type, [&](auto zero) {
    using T = decltype(zero);
    return launch<T>(params, stream);
  });
}

}  // namespace tigon
