/* files.h - the service "chimera.files/1": the core reads files for plugins (data.h). */
#ifndef FILES_H
#define FILES_H

#include <chimera/data.h>

extern const struct chi_files files_service;

#endif
