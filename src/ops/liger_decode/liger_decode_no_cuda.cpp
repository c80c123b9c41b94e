// Built instead of liger_decode_cuda.cpp in a CPU-only build; registers nothing.
