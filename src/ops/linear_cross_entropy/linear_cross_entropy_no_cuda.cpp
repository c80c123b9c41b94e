// Built instead of linear_cross_entropy_cuda.cpp and linear_cross_entropy_kernel.cu in a CPU-only
// build; registers nothing.
