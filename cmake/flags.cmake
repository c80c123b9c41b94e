# tigon_flags: what every target of the project compiles with.
add_library(tigon_flags INTERFACE)
target_compile_features(tigon_flags INTERFACE cxx_std_20)
target_compile_options(tigon_flags INTERFACE -Wall -Wextra -Wno-unused-parameter -fno-math-errno)
target_include_directories(tigon_flags INTERFACE ${PROJECT_SOURCE_DIR}/src)
if(TIGON_SANITIZE)
  target_compile_options(tigon_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1)
  target_link_options(tigon_flags INTERFACE -fsanitize=address,undefined)
endif()
