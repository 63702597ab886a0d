# The libraries that exactflash stands on, found by file so that a sysroot works as a system does.
include(CheckLibraryExists)

add_library(xf_dependencies INTERFACE)
find_package(Threads REQUIRED)
target_link_libraries(xf_dependencies INTERFACE Threads::Threads m)

set(XF_LIBRARY_NAMES) # for those who link the installed static library

function(xf_require name header package)
  find_path(XF_${name}_INCLUDE ${header} REQUIRED)
  find_library(XF_${name}_LIBRARY ${name} REQUIRED)
  target_include_directories(xf_dependencies SYSTEM INTERFACE ${XF_${name}_INCLUDE})
  target_link_libraries(xf_dependencies INTERFACE ${XF_${name}_LIBRARY})
  set(XF_LIBRARY_NAMES ${XF_LIBRARY_NAMES} ${name} PARENT_SCOPE)
endfunction()

xf_require(sleef sleef.h libsleef-dev)
xf_require(cpuinfo cpuinfo.h libcpuinfo-dev)
xf_require(cjson cjson/cJSON.h libcjson-dev)
xf_require(pcre2-8 pcre2.h libpcre2-dev)
xf_require(utf8proc utf8proc.h libutf8proc-dev)

# SLEEF's deterministic functions are called Sleef_finz_… up to 3.8 and are the plain ones from 3.9.
check_library_exists(${XF_sleef_LIBRARY} Sleef_finz_expf1_u10purecfma "" XF_SLEEF_HAS_FINZ)
if(XF_SLEEF_HAS_FINZ)
  target_compile_definitions(xf_dependencies INTERFACE XF_SLEEF_FINZ=1)
endif()
