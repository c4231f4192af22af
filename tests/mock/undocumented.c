/* undocumented.c - an option has no documentation. */
#include "mock.h"

MOCK_OPS;
static const struct chi_option options[] = {
    CHI_INT(struct mock_conf, width, "8", 1, 64, "", 0),
    CHI_OPTIONS_END
};
static const struct chi_component layer =
    MOCK_LAYER("undocumented", .options = options, .conf_size = sizeof(struct mock_conf));
MOCK_NAMED("undocumented", &layer);
