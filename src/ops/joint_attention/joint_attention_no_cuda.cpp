// Built instead of joint_attention_cuda.cpp in a CPU-only build; registers nothing.
