# tigon_embed(TARGET NAME FILE...): compiles text files into TARGET. The target's sources reach them through
#   namespace tigon::embedded { std::string_view NAME(std::string_view file_name); }   // empty if there is none
# declared in the generated header embedded/NAME.h.
function(tigon_embed target name)
  set(folder ${PROJECT_BINARY_DIR}/embedded)
  set(inputs "")
  foreach(file ${ARGN})
    cmake_path(ABSOLUTE_PATH file BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_VARIABLE path)
    list(APPEND inputs ${path})
  endforeach()
  string(REPLACE ";" "|" joined "${inputs}")
  add_custom_command(
    OUTPUT ${folder}/${name}.cpp ${folder}/${name}.h
    COMMAND ${CMAKE_COMMAND} -DNAME=${name} "-DFILES=${joined}" -DFOLDER=${folder} -P ${PROJECT_SOURCE_DIR}/cmake/embed_script.cmake
    DEPENDS ${inputs} ${PROJECT_SOURCE_DIR}/cmake/embed_script.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${folder}/${name}.cpp)
  set_source_files_properties(${folder}/${name}.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  target_include_directories(${target} PUBLIC ${PROJECT_BINARY_DIR})
endfunction()
