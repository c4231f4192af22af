/* function_symbol.c - its chimera_plugin is a function. */
#include "mock.h"

CHI_EXPORT int chimera_plugin(void);
int chimera_plugin(void)
{
    return 0;
}
