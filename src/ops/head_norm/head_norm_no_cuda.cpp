// Built instead of head_norm_cuda.cpp in a CPU-only build; registers nothing.
