/* files.h - services of the core for tasks (data.h): "chimera.files/1" reads files,
 * "chimera.json/1" parses JSON.                                                  */
#ifndef FILES_H
#define FILES_H

#include <chimera/data.h>

extern const struct chi_files files_service;
extern const struct chi_json json_service;
void services_register(void);           /* both                                    */

#endif
