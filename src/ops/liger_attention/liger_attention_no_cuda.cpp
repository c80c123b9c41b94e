// Built instead of liger_attention_cuda.cpp in a CPU-only build; registers nothing.
