// Built instead of window_attention_cuda.cpp in a CPU-only build; registers nothing.
