include(GNUInstallDirs)

install(TARGETS exactflash exactflash_static)
install(DIRECTORY include/exactflash TYPE INCLUDE)
install(TARGETS exactflash_cli)
install(DIRECTORY demo-model/ DESTINATION ${CMAKE_INSTALL_DATADIR}/exactflash/demo-model)

# Manual pages and completion, which the program itself makes.
if(NOT CMAKE_CROSSCOMPILING)
  install(DIRECTORY ${XF_MANUAL_FOLDER}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${XF_COMPLETION_FOLDER}/exactflash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${XF_COMPLETION_FOLDER}/_exactflash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
endif()
