include(GNUInstallDirs)

install(TARGETS exactflash exactflash_static)
install(DIRECTORY include/exactflash TYPE INCLUDE)
install(TARGETS exactflash_cli)
install(DIRECTORY demo-model/ DESTINATION ${CMAKE_INSTALL_DATADIR}/exactflash/demo-model)
