// Built instead of rms_norm_cuda.cpp and rms_norm_kernel.cu in a CPU-only build; registers nothing.
