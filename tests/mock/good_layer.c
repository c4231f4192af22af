/* good_layer.c - no sin: a layer with two options and a paper. */
#include "mock.h"

MOCK_OPS;
static const struct chi_option options[] = {
    CHI_INT(struct mock_conf, width, "8", 1, 64, "how wide it is", CHI_OPT_SHAPE),
    CHI_FLOAT(struct mock_conf, rate, "0.5", 0, 1, "how fast it is", CHI_OPT_RUNTIME),
    CHI_OPTIONS_END
};
static const struct chi_component layer =
    MOCK_LAYER("good_layer", .papers = "2412.06464", .options = options, .conf_size = sizeof(struct mock_conf));
MOCK_NAMED("good_layer", &layer);
