include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# For find_package(exactflash) and for pkg-config.
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/exactflash)
install(TARGETS exactflash exactflash_static EXPORT exactflash-targets)
install(EXPORT exactflash-targets NAMESPACE exactflash:: DESTINATION ${package_folder})
configure_file(cmake/exactflash-config.cmake.in exactflash-config.cmake @ONLY)
write_basic_package_version_file(exactflash-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/exactflash-config.cmake
  ${PROJECT_BINARY_DIR}/exactflash-config-version.cmake DESTINATION ${package_folder})
list(JOIN XF_LIBRARY_NAMES " -l" XF_PC_PRIVATE)
file(RELATIVE_PATH XF_PC_PREFIX /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
configure_file(cmake/exactflash.pc.in exactflash.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/exactflash.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(TARGETS exactflash_litert LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/exactflash TYPE INCLUDE)
install(TARGETS exactflash_cli)
install(DIRECTORY demo-model/ DESTINATION ${CMAKE_INSTALL_DATADIR}/exactflash/demo-model)

# Into the Python package, where pyproject.toml asks for it: one file, which is loaded by its path.
option(XF_PYTHON "Install what the Python package needs, as the component python" OFF)
if(XF_PYTHON)
  install(FILES $<TARGET_FILE:exactflash> DESTINATION exactflash COMPONENT python
    RENAME libexactflash.so)
endif()

# Manual pages and completion, which the program itself makes.
if(NOT CMAKE_CROSSCOMPILING)
  install(DIRECTORY ${XF_MANUAL_FOLDER}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${XF_COMPLETION_FOLDER}/exactflash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${XF_COMPLETION_FOLDER}/_exactflash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
endif()
