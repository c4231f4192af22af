/* option_outside.c - an option would be written behind the conf struct. */
#include "mock.h"

MOCK_OPS;
static const struct chi_option options[] = {
    CHI_FLOAT(struct mock_conf, rate, "0.5", 0, 1, "how fast it is", 0),
    CHI_OPTIONS_END
};
static const struct chi_component layer =
    MOCK_LAYER("option_outside", .options = options, .conf_size = 8);
MOCK_NAMED("option_outside", &layer);
