// Built instead of rope_cuda.cpp and rope_kernel.cu in a CPU-only build; registers nothing.
