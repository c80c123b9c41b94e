// Built instead of joint_decode_cuda.cpp in a CPU-only build; registers nothing.
