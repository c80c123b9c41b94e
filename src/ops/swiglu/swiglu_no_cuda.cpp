// Built instead of swiglu_cuda.cpp and swiglu_kernel.cu in a CPU-only build; registers nothing.
