// Built instead of gated_scan_cuda.cpp in a CPU-only build; registers nothing.
