/* import.c - chimera import: which of its kinds a file is.                                                    */
#include "import.h"

#include <string.h>

#include "core.h"
#include "export.h"
#include "fs.h"
#include "gguf.h"
#include "safetensors.h"

chi_status import_model(const struct import_request *q, FILE *report)
{
    TRY(import_numbers(q, report));
    note("%s is written", q->out);
    return CHI_OK;
}
