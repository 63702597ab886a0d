include(GNUInstallDirs)

install(TARGETS exactflash exactflash_static)
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
